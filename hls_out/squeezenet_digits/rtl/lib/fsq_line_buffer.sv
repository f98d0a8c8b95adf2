// Circular line buffer with read sequencer: pixels in, the taps of convolution windows out, in the order of the matrix-vector unit's work.
//
// Parameters
//   IH, IW      input height and width, pixels
//   OH, OW      output height and width
//   K, S        kernel size 1 to 7, stride 1 to 4
//   PT, PL      padding at the top and at the left (bottom and right follow from OH and OW); whole windows may lie in it
//   P_IC        input channels a word;  ACT_BITS  bits of a channel
//   IC_FOLDS    words a pixel: ceil(IC / P_IC)
//   OC_FOLDS    times a window is read: ceil(OC / P_OC)
//   P_K         taps a beat: 1, K (a kernel column) or K*K
//   ROWS        rows held, K or more; K + S lets writing overlap reading
//   TAP         1: the window's centre pixel also leaves on m_tap_* (K odd, S = 1, PT = PL = K/2)
//   PAD_VALUE   what a padded position holds, channel c at bit c*ACT_BITS
//   PX_STEP, PX_FIRST   visits output pixels PX_FIRST, PX_FIRST + PX_STEP, ... of a frame, counted row by row; PX_FIRST < PX_STEP <= OW.
//               PX_STEP copies fed with the same input give PX_STEP pixels at a time (fsq_conv_engine, fsq_expand)
//
// Ports
//   clk, rst    clock; synchronous reset, active high, of the control state only: rows held are dropped
//   s_axis_*    IH * IW * IC_FOLDS beats a frame, one word of P_IC channels each; tready comes from registers
//   m_axis_*    ceil(OH*OW / PX_STEP) * OC_FOLDS * ceil(K*K / P_K) * IC_FOLDS beats a frame, the channel fold innermost, then taps, then
//               output-channel folds; tap t of a beat at bit t*P_IC*ACT_BITS. Taps count row by row through the kernel; with P_K = K a beat
//               is one column. Where PX_FIRST's last pixel would lie beyond the frame, a dummy takes its place: padding, without any wait.
//   m_tap_*     IC_FOLDS words a pixel, once each (in the first output-channel fold), a dummy's too; never valid when TAP = 0
//
// Throughput one output beat a cycle. The windows of a pixel start as soon as its last input pixel is in (three cycles later they leave).
// Rows stay until no window needs them; the next frame's rows are written while the last windows of this one are read. Rows below the last
// window are taken in and dropped. P_K = 1 uses one memory of ROWS rows; P_K = K one memory a row; P_K = K*K one a row and column modulo K.
module fsq_line_buffer #(
    parameter IH = 8,
    parameter IW = 8,
    parameter OH = 8,
    parameter OW = 8,
    parameter K = 3,
    parameter S = 1,
    parameter PT = 1,
    parameter PL = 1,
    parameter P_IC = 1,
    parameter ACT_BITS = 8,
    parameter IC_FOLDS = 1,
    parameter OC_FOLDS = 1,
    parameter P_K = 1,
    parameter ROWS = K + S,
    parameter TAP = 0,
    parameter PX_STEP = 1,
    parameter PX_FIRST = 0,
    parameter [IC_FOLDS*P_IC*ACT_BITS-1:0] PAD_VALUE = 0
) (
    input  wire                         clk,
    input  wire                         rst,
    input  wire [P_IC*ACT_BITS-1:0]     s_axis_tdata,
    input  wire                         s_axis_tvalid,
    output wire                         s_axis_tready,
    output wire [P_K*P_IC*ACT_BITS-1:0] m_axis_tdata,
    output wire                         m_axis_tvalid,
    input  wire                         m_axis_tready,
    output wire [P_IC*ACT_BITS-1:0]     m_tap_tdata,
    output wire                         m_tap_tvalid,
    input  wire                         m_tap_tready
);
    function automatic integer minimum(input integer a, input integer b);
        minimum = (a < b) ? a : b;
    endfunction
    function automatic integer clamp(input integer value, input integer high);
        clamp = (value < 0) ? 0 : (value < high) ? value : high;
    endfunction
    function automatic integer floor_div(input integer value, input integer by);
        floor_div = (value < 0) ? -((by - 1 - value) / by) : value / by;
    endfunction
    function automatic integer bits_for(input integer values);
        bits_for = (values > 1) ? $clog2(values) : 1;
    endfunction

    localparam WORD = P_IC * ACT_BITS;
    localparam BY_ROW = (P_K != 1) ? 1 : 0;
    localparam BY_COLUMN = (K > 1 && P_K == K * K) ? 1 : 0;
    localparam ROW_TAPS = BY_ROW ? K : 1;     // taps of a beat, down
    localparam COL_TAPS = BY_COLUMN ? K : 1;  // and across
    localparam ROW_BANKS = BY_ROW ? ROWS : 1;
    localparam COL_BANKS = BY_COLUMN ? K : 1;
    localparam ROW_WORDS = ((IW + COL_BANKS - 1) / COL_BANKS) * IC_FOLDS;
    localparam BANK_WORDS = BY_ROW ? ROW_WORDS : ROWS * ROW_WORDS;
    localparam USED_ROWS = minimum(IH, (OH - 1) * S - PT + K);  // rows below are in no window
    localparam FIRST_NEED = clamp(K - 1 - PT, IH - 1);          // last row and column of the first window, at least 0: a frame begins with its first pixel
    localparam FIRST_LAST_COL = clamp(PX_FIRST * S + K - 1 - PL, IW - 1);
    localparam PX_VISITS = (OH * OW + PX_STEP - 1) / PX_STEP;
    localparam HAS_DUMMY = (PX_FIRST + (PX_VISITS - 1) * PX_STEP >= OH * OW) ? 1 : 0;
    localparam FRAME_TURN = (((USED_ROWS - (OH - 1) * S) % ROWS) + ROWS) % ROWS;  // slots from the last window's row to the next frame's first one

    localparam ICF_BITS = bits_for(IC_FOLDS);
    localparam OCF_BITS = bits_for(OC_FOLDS);
    localparam K_BITS = bits_for(K);
    localparam SLOT_BITS = bits_for(ROWS);
    localparam IROW_BITS = bits_for(IH);
    localparam ICOL_BITS = bits_for(IW);
    localparam OROW_BITS = bits_for(OH);
    localparam OCOL_BITS = bits_for(OW);
    localparam POS_BITS = $clog2(IH + IW + (OH + OW + 1 + PX_STEP) * S + PT + PL + 2 * K) + 1;  // signed row and column positions
    localparam COUNT_BITS = $clog2(ROWS + K + S + 1) + 1;           // signed row counts
    localparam ADDR_BITS = $clog2(BANK_WORDS + K * IC_FOLDS + 1) + 1;
    localparam BANK_BITS = bits_for(BANK_WORDS);

    initial begin : check_parameters
        if (K < 1 || K > 7 || S < 1 || S > 4) $fatal(1, "fsq_line_buffer: K=%0d S=%0d, 1 to 7 and 1 to 4 were expected", K, S);
        if (PT < 0 || PL < 0) $fatal(1, "fsq_line_buffer: PT=%0d PL=%0d, 0 or more was expected", PT, PL);
        if (P_K != 1 && P_K != K && P_K != K * K) $fatal(1, "fsq_line_buffer: P_K=%0d, 1, K or K*K was expected (K=%0d)", P_K, K);
        if (ROWS < K) $fatal(1, "fsq_line_buffer: ROWS=%0d, K=%0d or more was expected", ROWS, K);
        if (IH < 1 || IW < 1 || OH < 1 || OW < 1) $fatal(1, "fsq_line_buffer: IH=%0d IW=%0d OH=%0d OW=%0d, 1 or more was expected", IH, IW, OH, OW);
        if (USED_ROWS < 1) $fatal(1, "fsq_line_buffer: no window reaches the input (IH=%0d OH=%0d K=%0d S=%0d PT=%0d)", IH, OH, K, S, PT);
        if (P_IC < 1 || IC_FOLDS < 1 || OC_FOLDS < 1)
            $fatal(1, "fsq_line_buffer: P_IC=%0d IC_FOLDS=%0d OC_FOLDS=%0d, 1 or more was expected", P_IC, IC_FOLDS, OC_FOLDS);
        if (PX_STEP < 1 || PX_STEP > OW || PX_FIRST < 0 || PX_FIRST >= PX_STEP)
            $fatal(1, "fsq_line_buffer: PX_STEP=%0d PX_FIRST=%0d, PX_STEP from 1 to OW=%0d and PX_FIRST below it were expected", PX_STEP, PX_FIRST, OW);
        if (TAP != 0 && (K % 2 == 0 || S != 1 || PT != K / 2 || PL != K / 2))
            $fatal(1, "fsq_line_buffer: a centre tap needs an odd K, S=1, PT=PL=K/2; got K=%0d S=%0d PT=%0d PL=%0d", K, S, PT, PL);
    end

    // ------------------------------------------------------------------ writing
    reg [ICF_BITS-1:0]  w_icf_reg;
    reg [ICOL_BITS-1:0] w_col_reg;
    reg [IROW_BITS-1:0] w_row_reg;
    reg [SLOT_BITS-1:0] w_slot_reg;
    reg [K_BITS-1:0]    w_bank_reg;  // column modulo COL_BANKS
    reg [ADDR_BITS-1:0] w_base_reg;  // address of the pixel's first word in its memory

    // Complete rows held, as the writer sees it (a row is let go when its last read is done) and as the sequencer sees it (when that read is
    // issued). Negative: rows were let go before they came, because no window needs them.
    reg signed [COUNT_BITS-1:0] held_reg;
    reg signed [COUNT_BITS-1:0] avail_reg;

    wire keep = w_row_reg < USED_ROWS;
    wire push = s_axis_tvalid && s_axis_tready;
    wire w_pixel_ends = push && w_icf_reg == IC_FOLDS - 1;
    wire w_row_ends = w_pixel_ends && w_col_reg == IW - 1;
    wire w_row_held = w_row_ends && keep;
    wire [ADDR_BITS-1:0] w_addr = w_base_reg + w_icf_reg;

    assign s_axis_tready = !keep || held_reg != ROWS;

    always_ff @(posedge clk) begin : write_control
        if (rst) begin
            w_icf_reg <= {ICF_BITS{1'b0}};
            w_col_reg <= {ICOL_BITS{1'b0}};
            w_row_reg <= {IROW_BITS{1'b0}};
            w_slot_reg <= {SLOT_BITS{1'b0}};
            w_bank_reg <= {K_BITS{1'b0}};
            w_base_reg <= {ADDR_BITS{1'b0}};
        end else if (push) begin
            w_icf_reg <= w_pixel_ends ? {ICF_BITS{1'b0}} : w_icf_reg + 1'b1;
            if (w_pixel_ends) begin
                w_col_reg <= w_row_ends ? {ICOL_BITS{1'b0}} : w_col_reg + 1'b1;
                w_bank_reg <= (w_row_ends || w_bank_reg == COL_BANKS - 1) ? {K_BITS{1'b0}} : w_bank_reg + 1'b1;
                if (w_row_ends) begin
                    w_row_reg <= (w_row_reg == IH - 1) ? {IROW_BITS{1'b0}} : w_row_reg + 1'b1;
                    if (keep) w_slot_reg <= (w_slot_reg == ROWS - 1) ? {SLOT_BITS{1'b0}} : w_slot_reg + 1'b1;
                end
                if (keep) begin
                    if (w_row_ends && (BY_ROW != 0 || w_slot_reg == ROWS - 1)) w_base_reg <= {ADDR_BITS{1'b0}};
                    else if (w_bank_reg == COL_BANKS - 1) w_base_reg <= w_base_reg + IC_FOLDS;
                end
            end
        end
    end

    // ------------------------------------------------------------------ read sequencer
    reg [ICF_BITS-1:0]          r_icf_reg;
    reg [K_BITS-1:0]            r_kh_reg;
    reg [K_BITS-1:0]            r_kw_reg;
    reg [OCF_BITS-1:0]          r_ocf_reg;
    reg [OCOL_BITS-1:0]         r_ow_reg;
    reg [OROW_BITS-1:0]         r_oh_reg;
    reg signed [POS_BITS-1:0]   r_top_reg;       // row and column of the window's first tap, negative in the padding
    reg signed [POS_BITS-1:0]   r_left_reg;
    reg [SLOT_BITS-1:0]         r_slot_reg;      // slot of row r_top_reg
    reg signed [COUNT_BITS-1:0] r_need_reg;      // complete rows to wait for, from the oldest held, before the window's last row
    reg signed [POS_BITS-1:0]   r_last_col_reg;  // and the column to wait for in that one
    reg [ADDR_BITS-1:0]         r_row_addr_reg;  // one memory: start of slot r_slot_reg; and of the row of tap r_kh_reg
    reg [ADDR_BITS-1:0]         r_tap_addr_reg;
    reg signed [ADDR_BITS-1:0]  r_col_addr_reg;  // words before column r_left_reg in its bank (may be negative in the padding)
    reg [ADDR_BITS-1:0]         r_kw_addr_reg;   // words before tap column r_kw_reg
    reg [K_BITS-1:0]            r_bank_reg;      // r_left_reg modulo COL_BANKS

    localparam signed [POS_BITS-1:0] TOP_START = -PT;
    localparam FIRST_LEFT = PX_FIRST * S - PL;
    localparam signed [POS_BITS-1:0] LEFT_START = FIRST_LEFT;
    localparam SLOT_START = (ROWS - PT % ROWS) % ROWS;
    localparam COL_STEP = PX_STEP * S;         // columns to the next window in the same output row
    localparam COL_WRAP = (PX_STEP - OW) * S;  // ... in the next output row (a frame's end starts anew)
    localparam COL_ADDR_START = BY_COLUMN ? floor_div(FIRST_LEFT, K) * IC_FOLDS : FIRST_LEFT * IC_FOLDS;
    localparam COL_ADDR_STEP = BY_COLUMN ? (COL_STEP / K) * IC_FOLDS : COL_STEP * IC_FOLDS;
    localparam COL_ADDR_WRAP = BY_COLUMN ? floor_div(COL_WRAP, K) * IC_FOLDS : COL_WRAP * IC_FOLDS;
    localparam BANK_START = BY_COLUMN ? FIRST_LEFT - floor_div(FIRST_LEFT, K) * K : 0;
    localparam BANK_STEP = BY_COLUMN ? COL_STEP % K : 0;
    localparam BANK_WRAP = BY_COLUMN ? COL_WRAP - floor_div(COL_WRAP, K) * K : 0;

    wire ce;  // the read pipeline moves
    wire signed [POS_BITS-1:0] partial = keep ? $signed({1'b0, w_col_reg}) : 0;
    wire dummy;  // the frame's pixels are done, the dummy's beats are left
    wire present = dummy || avail_reg > r_need_reg || (avail_reg == r_need_reg && partial > r_last_col_reg);
    wire issue = ce && present;

    wire icf_ends = r_icf_reg == IC_FOLDS - 1;
    wire kw_ends = BY_COLUMN != 0 || r_kw_reg == K - 1;
    wire kh_ends = BY_ROW != 0 || r_kh_reg == K - 1;
    wire taps_end = icf_ends && kw_ends && kh_ends;
    wire pixel_ends = taps_end && r_ocf_reg == OC_FOLDS - 1;
    wire last_in_row = (PX_STEP == 1) ? r_ow_reg == OW - 1 : r_ow_reg >= OW - PX_STEP;
    wire row_ends = pixel_ends && last_in_row && !dummy;
    wire frame_ends = row_ends && r_oh_reg == OH - 1;
    wire col_starts = row_ends && (PX_STEP == 1 || frame_ends);  // the next window is the first of a frame, or of any row when it visits all

    // The next output row's window, and the rows no longer needed with it.
    wire signed [POS_BITS-1:0] top_step = r_top_reg + S;
    wire signed [POS_BITS-1:0] top_next = frame_ends ? TOP_START : top_step;
    wire signed [POS_BITS-1:0] bottom_step = r_top_reg + (S + K - 1);
    wire signed [POS_BITS-1:0] first_held = (r_top_reg < 0) ? 0 : (r_top_reg > USED_ROWS) ? USED_ROWS : r_top_reg;
    wire signed [POS_BITS-1:0] first_kept = (frame_ends || top_step > USED_ROWS) ? USED_ROWS : (top_step < 0) ? 0 : top_step;
    wire signed [POS_BITS-1:0] rows_freed = first_kept - first_held;
    wire signed [POS_BITS-1:0] last_next = (bottom_step < 0) ? 0 : (bottom_step < IH - 1) ? bottom_step : IH - 1;
    wire signed [POS_BITS-1:0] need_next = last_next - first_kept;
    wire [SLOT_BITS:0] slot_step = frame_ends ? FRAME_TURN : S % ROWS;
    wire [SLOT_BITS:0] slot_sum = r_slot_reg + slot_step;
    wire [SLOT_BITS:0] slot_next = (slot_sum >= ROWS) ? slot_sum - ROWS : slot_sum;
    wire [ADDR_BITS:0] row_addr_step = frame_ends ? FRAME_TURN * ROW_WORDS : (S % ROWS) * ROW_WORDS;
    wire [ADDR_BITS:0] row_addr_sum = r_row_addr_reg + row_addr_step;
    wire [ADDR_BITS:0] row_addr_next = (row_addr_sum >= ROWS * ROW_WORDS) ? row_addr_sum - ROWS * ROW_WORDS : row_addr_sum;
    wire [ADDR_BITS:0] tap_addr_sum = r_tap_addr_reg + ROW_WORDS;
    wire [ADDR_BITS:0] tap_addr_next = (tap_addr_sum >= ROWS * ROW_WORDS) ? tap_addr_sum - ROWS * ROW_WORDS : tap_addr_sum;
    wire wraps = row_ends && PX_STEP != 1;
    wire signed [POS_BITS-1:0] left_next = r_left_reg + (wraps ? COL_WRAP : COL_STEP);
    wire signed [POS_BITS-1:0] right_next = r_left_reg + (wraps ? COL_WRAP + K - 1 : COL_STEP + K - 1);
    wire signed [POS_BITS-1:0] last_col_next = (right_next < 0) ? 0 : (right_next < IW - 1) ? right_next : IW - 1;
    wire signed [ADDR_BITS-1:0] col_addr_next = r_col_addr_reg + (wraps ? COL_ADDR_WRAP : COL_ADDR_STEP);
    wire [K_BITS:0] bank_sum = r_bank_reg + (wraps ? BANK_WRAP : BANK_STEP);
    wire bank_wraps = bank_sum >= COL_BANKS;
    wire [OCOL_BITS:0] ow_sum = r_ow_reg + PX_STEP;
    generate
        if (HAS_DUMMY != 0) begin : gen_dummy
            // The sequencer is at the next frame's first window already; it stays there while the dummy's beats are counted.
            reg dummy_reg;
            assign dummy = dummy_reg;
            always_ff @(posedge clk) begin : dummy_state
                if (rst) dummy_reg <= 1'b0;
                else if (issue && pixel_ends) dummy_reg <= frame_ends;
            end
        end else begin : gen_no_dummy
            assign dummy = 1'b0;
        end
    endgenerate

    always_ff @(posedge clk) begin : read_control
        if (rst) begin
            r_icf_reg <= {ICF_BITS{1'b0}};
            r_kh_reg <= {K_BITS{1'b0}};
            r_kw_reg <= {K_BITS{1'b0}};
            r_ocf_reg <= {OCF_BITS{1'b0}};
            r_ow_reg <= PX_FIRST;
            r_oh_reg <= {OROW_BITS{1'b0}};
            r_top_reg <= TOP_START;
            r_left_reg <= LEFT_START;
            r_slot_reg <= SLOT_START;
            r_need_reg <= FIRST_NEED;
            r_last_col_reg <= FIRST_LAST_COL;
            r_row_addr_reg <= SLOT_START * ROW_WORDS;
            r_tap_addr_reg <= SLOT_START * ROW_WORDS;
            r_col_addr_reg <= COL_ADDR_START;
            r_kw_addr_reg <= {ADDR_BITS{1'b0}};
            r_bank_reg <= BANK_START;
        end else if (issue) begin
            r_icf_reg <= icf_ends ? {ICF_BITS{1'b0}} : r_icf_reg + 1'b1;
            if (icf_ends && BY_COLUMN == 0) begin
                r_kw_reg <= kw_ends ? {K_BITS{1'b0}} : r_kw_reg + 1'b1;
                r_kw_addr_reg <= kw_ends ? {ADDR_BITS{1'b0}} : r_kw_addr_reg + IC_FOLDS;
                if (kw_ends && BY_ROW == 0) begin
                    r_kh_reg <= kh_ends ? {K_BITS{1'b0}} : r_kh_reg + 1'b1;
                    r_tap_addr_reg <= !kh_ends ? tap_addr_next : row_ends ? row_addr_next : r_row_addr_reg;
                end
            end
            if (taps_end) r_ocf_reg <= pixel_ends ? {OCF_BITS{1'b0}} : r_ocf_reg + 1'b1;
            if (pixel_ends && !dummy) begin
                r_ow_reg <= col_starts ? PX_FIRST : wraps ? ow_sum - OW : ow_sum;
                r_left_reg <= col_starts ? LEFT_START : left_next;
                r_last_col_reg <= col_starts ? FIRST_LAST_COL : last_col_next;
                r_col_addr_reg <= col_starts ? COL_ADDR_START : col_addr_next + (bank_wraps ? IC_FOLDS : 0);
                r_bank_reg <= col_starts ? BANK_START : bank_wraps ? bank_sum - COL_BANKS : bank_sum;
            end
            if (row_ends) begin
                r_oh_reg <= frame_ends ? {OROW_BITS{1'b0}} : r_oh_reg + 1'b1;
                r_top_reg <= top_next;
                r_slot_reg <= slot_next;
                r_row_addr_reg <= row_addr_next;
                r_need_reg <= frame_ends ? FIRST_NEED : need_next;
            end
        end
    end

    // ------------------------------------------------------------------ stage 1: addresses, which taps exist, where they lie
    reg                           a_valid_reg;
    reg                           a_row_ends_reg;
    reg signed [COUNT_BITS-1:0]   a_freed_reg;
    reg [ICF_BITS-1:0]            a_icf_reg;
    reg                           a_tap_reg;
    reg [ROW_TAPS-1:0]            a_row_ok_reg;
    reg [COL_TAPS-1:0]            a_col_ok_reg;
    reg [ROW_TAPS*SLOT_BITS-1:0]  a_row_sel_reg;  // row tap i lies in row bank ...
    reg [COL_TAPS*K_BITS-1:0]     a_col_sel_reg;  // column tap j in column bank ...
    reg [COL_BANKS*ADDR_BITS-1:0] a_addr_reg;

    wire [ROW_TAPS-1:0]            row_ok;
    wire [COL_TAPS-1:0]            col_ok;
    wire [ROW_TAPS*SLOT_BITS-1:0]  row_sel;
    wire [COL_TAPS*K_BITS-1:0]     col_sel;
    wire [COL_BANKS*ADDR_BITS-1:0] read_addr;
    wire centre = TAP != 0 && r_ocf_reg == 0 && (BY_COLUMN != 0 || r_kw_reg == K / 2) && (BY_ROW != 0 || r_kh_reg == K / 2);

    genvar i, j, r, c;
    generate
        for (i = 0; i < ROW_TAPS; i = i + 1) begin : gen_row_tap
            wire signed [POS_BITS-1:0] row = r_top_reg + (BY_ROW ? i : $signed({1'b0, r_kh_reg}));
            wire [SLOT_BITS:0] slot = r_slot_reg + i;
            assign row_ok[i] = row >= 0 && row < IH && !dummy;
            assign row_sel[i*SLOT_BITS +: SLOT_BITS] = (BY_ROW == 0) ? 0 : (slot >= ROWS) ? slot - ROWS : slot;
        end
        for (j = 0; j < COL_TAPS; j = j + 1) begin : gen_col_tap
            wire signed [POS_BITS-1:0] col = r_left_reg + (BY_COLUMN ? j : $signed({1'b0, r_kw_reg}));
            wire [K_BITS:0] bank = r_bank_reg + j;
            assign col_ok[j] = col >= 0 && col < IW;
            assign col_sel[j*K_BITS +: K_BITS] = (BY_COLUMN == 0) ? 0 : (bank >= COL_BANKS) ? bank - COL_BANKS : bank;
        end
        for (c = 0; c < COL_BANKS; c = c + 1) begin : gen_addr
            if (BY_COLUMN != 0) begin : gen_column
                // Banks before the window's first column hold its columns one step further on.
                assign read_addr[c*ADDR_BITS +: ADDR_BITS] = r_col_addr_reg + ((c < r_bank_reg) ? IC_FOLDS : 0) + r_icf_reg;
            end else if (BY_ROW != 0) begin : gen_row
                assign read_addr[c*ADDR_BITS +: ADDR_BITS] = r_col_addr_reg + r_kw_addr_reg + r_icf_reg;
            end else begin : gen_single
                assign read_addr[c*ADDR_BITS +: ADDR_BITS] = r_tap_addr_reg + r_col_addr_reg + r_kw_addr_reg + r_icf_reg;
            end
        end
    endgenerate

    // ------------------------------------------------------------------ stage 2: memories; stage 3: selection and padding
    reg                          b_valid_reg;
    reg [ICF_BITS-1:0]           b_icf_reg;
    reg                          b_tap_reg;
    reg [ROW_TAPS-1:0]           b_row_ok_reg;
    reg [COL_TAPS-1:0]           b_col_ok_reg;
    reg [ROW_TAPS*SLOT_BITS-1:0] b_row_sel_reg;
    reg [COL_TAPS*K_BITS-1:0]    b_col_sel_reg;
    reg                          o_valid_reg;
    reg                          o_tap_reg;
    reg [P_K*WORD-1:0]           o_data_reg;

    wire freeing = ce && a_valid_reg && a_row_ends_reg;
    wire signed [COUNT_BITS-1:0] row_in = w_row_held ? 1 : 0;
    wire signed [COUNT_BITS-1:0] row_out = freeing ? a_freed_reg : 0;
    wire signed [COUNT_BITS-1:0] row_issued = (issue && row_ends) ? rows_freed : 0;

    always_ff @(posedge clk) begin : read_flags
        if (rst) begin
            a_valid_reg <= 1'b0;
            b_valid_reg <= 1'b0;
            o_valid_reg <= 1'b0;
            held_reg <= {COUNT_BITS{1'b0}};
            avail_reg <= {COUNT_BITS{1'b0}};
        end else begin
            held_reg <= held_reg + row_in - row_out;
            avail_reg <= avail_reg + row_in - row_issued;
            if (ce) begin
                a_valid_reg <= present;
                b_valid_reg <= a_valid_reg;
                o_valid_reg <= b_valid_reg;
            end
        end
    end

    always_ff @(posedge clk) begin : read_pipeline
        if (ce) begin
            a_row_ends_reg <= row_ends;
            a_freed_reg <= rows_freed;
            a_icf_reg <= r_icf_reg;
            a_tap_reg <= centre;
            a_row_ok_reg <= row_ok;
            a_col_ok_reg <= col_ok;
            a_row_sel_reg <= row_sel;
            a_col_sel_reg <= col_sel;
            a_addr_reg <= read_addr;
            b_icf_reg <= a_icf_reg;
            b_tap_reg <= a_tap_reg;
            b_row_ok_reg <= a_row_ok_reg;
            b_col_ok_reg <= a_col_ok_reg;
            b_row_sel_reg <= a_row_sel_reg;
            b_col_sel_reg <= a_col_sel_reg;
            o_tap_reg <= b_tap_reg;
        end
    end

    // Each bank is compared with: an index times a width that is no power of two would take a hardware multiplier. As functions, since a loop in
    // always_comb wakes itself in Icarus.
    function automatic [WORD-1:0] row_word(input [ROW_BANKS*WORD-1:0] banks, input [SLOT_BITS-1:0] bank);
        integer n;
        row_word = banks[0 +: WORD];
        for (n = 1; n < ROW_BANKS; n = n + 1) if (bank == n) row_word = banks[n*WORD +: WORD];
    endfunction
    function automatic [WORD-1:0] column_word(input [COL_BANKS*WORD-1:0] banks, input [K_BITS-1:0] bank);
        integer n;
        column_word = banks[0 +: WORD];
        for (n = 1; n < COL_BANKS; n = n + 1) if (bank == n) column_word = banks[n*WORD +: WORD];
    endfunction

    wire [ROW_BANKS*COL_BANKS*WORD-1:0] words;   // what the memories read: row bank r, column bank c at (r*COL_BANKS + c)*WORD
    wire [ROW_TAPS*COL_BANKS*WORD-1:0]  in_row;  // row bank chosen for each row tap
    wire [WORD-1:0]                     pad_word = PAD_VALUE[b_icf_reg*WORD +: WORD];
    generate
        for (r = 0; r < ROW_BANKS; r = r + 1) begin : gen_row_bank
            for (c = 0; c < COL_BANKS; c = c + 1) begin : gen_col_bank
                wire write = push && keep && (BY_ROW == 0 || w_slot_reg == r) && (BY_COLUMN == 0 || w_bank_reg == c);
                fsq_memory #(.WIDTH(WORD), .DEPTH(BANK_WORDS)) memory (
                    .clk(clk), .write(write), .write_addr(w_addr[BANK_BITS-1:0]), .write_data(s_axis_tdata),
                    .enable(ce), .read_addr(a_addr_reg[c*ADDR_BITS +: BANK_BITS]), .word(words[(r*COL_BANKS + c)*WORD +: WORD])
                );
            end
        end
        for (i = 0; i < ROW_TAPS; i = i + 1) begin : gen_select_row
            for (c = 0; c < COL_BANKS; c = c + 1) begin : gen_column
                wire [ROW_BANKS*WORD-1:0] column;  // what every row bank reads at this column bank
                for (r = 0; r < ROW_BANKS; r = r + 1) begin : gen_row
                    assign column[r*WORD +: WORD] = words[(r*COL_BANKS + c)*WORD +: WORD];
                end
                assign in_row[(i*COL_BANKS + c)*WORD +: WORD] = row_word(column, b_row_sel_reg[i*SLOT_BITS +: SLOT_BITS]);
            end
            for (j = 0; j < COL_TAPS; j = j + 1) begin : gen_tap
                wire [WORD-1:0] found = column_word(in_row[i*COL_BANKS*WORD +: COL_BANKS*WORD], b_col_sel_reg[j*K_BITS +: K_BITS]);
                always_ff @(posedge clk) begin : select
                    if (ce) o_data_reg[(i*COL_TAPS + j)*WORD +: WORD] <= (b_row_ok_reg[i] && b_col_ok_reg[j]) ? found : pad_word;
                end
            end
        end
    endgenerate

    // ------------------------------------------------------------------ output: the window stream, and the centre tap beside it
    assign m_axis_tdata = o_data_reg;
    assign m_tap_tdata = o_data_reg[(P_K/2)*WORD +: WORD];
    generate
        if (TAP != 0) begin : gen_fork
            // Each side takes the beat when it likes; the pipeline moves when both have.
            reg window_done_reg;
            reg tap_done_reg;
            wire window_done = window_done_reg || m_axis_tready;
            wire tap_done = !o_tap_reg || tap_done_reg || m_tap_tready;
            assign m_axis_tvalid = o_valid_reg && !window_done_reg;
            assign m_tap_tvalid = o_valid_reg && o_tap_reg && !tap_done_reg;
            assign ce = !o_valid_reg || (window_done && tap_done);
            always_ff @(posedge clk) begin : fork_state
                if (rst || ce) begin
                    window_done_reg <= 1'b0;
                    tap_done_reg <= 1'b0;
                end else begin
                    window_done_reg <= window_done;
                    tap_done_reg <= o_tap_reg && tap_done;
                end
            end
        end else begin : gen_plain
            assign m_axis_tvalid = o_valid_reg;
            assign m_tap_tvalid = 1'b0;
            assign ce = !o_valid_reg || m_axis_tready;
        end
    endgenerate
endmodule
