// Sliding maximum along one axis: out[j] = max of in[p] over the K positions p = j*S - PAD_BEFORE ... , padded positions never win.
// A 2-D max pool is one of these along the columns and one along the rows (fsq_max_pool).
//
// The axis has LENGTH positions of INNER beats each (beat i of a position meets beat i of the others); lines follow each other without a gap.
//
// Parameters
//   LANES, BITS  values a beat carries and bits of a value
//   SIGNED       1: values are two's complement, 0: unsigned
//   LENGTH       positions of a line
//   INNER        beats of a position
//   K, S         window length and stride
//   PAD_BEFORE   padded positions before the line, less than K
//   PAD_AFTER    padded positions after it, the overhang of ceil mode included; the last window must still start inside the line
//
// Ports
//   clk, rst     clock; synchronous reset, active high, of the control state only (the next beat begins a line)
//   s_axis_*     input; tready depends on m_axis_tready combinationally
//   m_axis_*     output, registered; tdata and tvalid stay as they are while tvalid is high and tready low
//
// Memory ceil((K-1)/S) partial maxima of INNER beats: a window is kept only between its first and its last position.
// Throughput one input beat a cycle. Where n > 1 windows end beyond the line (such as K=3, S=1, PAD_AFTER=1), a line takes n - 1 positions more.
// Latency one cycle from the beat that completes a window.
module fsq_window_max #(
    parameter LANES = 1,
    parameter BITS = 8,
    parameter SIGNED = 0,
    parameter LENGTH = 8,
    parameter INNER = 1,
    parameter K = 3,
    parameter S = 2,
    parameter PAD_BEFORE = 0,
    parameter PAD_AFTER = 0
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire [LANES*BITS-1:0] s_axis_tdata,
    input  wire                  s_axis_tvalid,
    output wire                  s_axis_tready,
    output wire [LANES*BITS-1:0] m_axis_tdata,
    output wire                  m_axis_tvalid,
    input  wire                  m_axis_tready
);
    localparam WIDTH = LANES * BITS;
    localparam WINDOWS = (LENGTH + PAD_BEFORE + PAD_AFTER - K) / S + 1;
    localparam FIRST_END = K - 1 - PAD_BEFORE;                        // last position of window 0
    localparam FINAL_END = FIRST_END + (WINDOWS - 1) * S;             // last position of the last window, perhaps beyond the line
    // Windows that end on the last position or beyond; all but one of them get a position of their own after the line.
    localparam BEYOND = (FINAL_END < LENGTH - 1) ? 0 : (FINAL_END - (LENGTH - 1)) / S + 1;
    localparam TAIL = (BEYOND > WINDOWS) ? WINDOWS : BEYOND;
    localparam POSITIONS = LENGTH + ((TAIL > 1) ? TAIL - 1 : 0);
    localparam SLOTS = (K > 1) ? (K - 1 + S - 1) / S : 1;             // K = 1 never reads its slot
    localparam SLOT_BITS = (SLOTS > 1) ? $clog2(SLOTS) : 1;
    localparam INNER_BITS = (INNER > 1) ? $clog2(INNER) : 1;
    // Positions and window ends, signed: starts may lie before the line, ends behind it.
    localparam POSITION_BITS = $clog2(POSITIONS + K + (SLOTS + 1) * S + PAD_BEFORE + 2) + 1;
    localparam signed [POSITION_BITS-1:0] FIRST_STOP = (FIRST_END > LENGTH - 1) ? LENGTH - 1 : FIRST_END;
    localparam signed [POSITION_BITS-1:0] LINE_END = LENGTH - 1;
    localparam signed [POSITION_BITS-1:0] SCAN_END = POSITIONS - 1;
    localparam signed [POSITION_BITS-1:0] STRIDE = S;
    localparam signed [POSITION_BITS-1:0] ROUND = SLOTS * S;          // between two windows of one slot
    localparam signed [POSITION_BITS-1:0] ZERO = 0;
    localparam signed [POSITION_BITS-1:0] ONE = 1;

    initial begin : check_parameters
        if (LANES < 1 || BITS < 1) $fatal(1, "fsq_window_max: LANES=%0d BITS=%0d, 1 or more was expected", LANES, BITS);
        if (K < 1 || S < 1) $fatal(1, "fsq_window_max: K=%0d S=%0d, 1 or more was expected", K, S);
        if (LENGTH < 1 || INNER < 1) $fatal(1, "fsq_window_max: LENGTH=%0d INNER=%0d, 1 or more was expected", LENGTH, INNER);
        if (PAD_BEFORE < 0 || PAD_BEFORE >= K) $fatal(1, "fsq_window_max: PAD_BEFORE=%0d, 0 to K-1=%0d was expected", PAD_BEFORE, K - 1);
        if (PAD_AFTER < 0 || LENGTH + PAD_BEFORE + PAD_AFTER < K) $fatal(1, "fsq_window_max: no window of %0d fits %0d+%0d+%0d", K, PAD_BEFORE, LENGTH, PAD_AFTER);
        if (FINAL_END - (K - 1) > LENGTH - 1) $fatal(1, "fsq_window_max: PAD_AFTER=%0d, the last window lies wholly in the padding", PAD_AFTER);
    end

    reg  signed [POSITION_BITS-1:0] position_reg;
    reg  signed [POSITION_BITS-1:0] stop_reg;       // position that completes the oldest open window
    reg         [INNER_BITS-1:0]    inner_reg;
    reg         [SLOT_BITS-1:0]     oldest_reg;     // slot of that window
    reg         [WIDTH-1:0]         out_data_reg;
    reg                             out_valid_reg;

    wire virtual_position = position_reg > LINE_END;
    wire completes = position_reg == stop_reg;
    wire may_send = !completes || !out_valid_reg || m_axis_tready;
    wire step = may_send && (virtual_position || s_axis_tvalid);
    wire inner_last = inner_reg == (INNER - 1);
    wire scan_last = position_reg == SCAN_END;
    wire next_position = step && inner_last;
    wire next_line = next_position && scan_last;

    assign s_axis_tready = may_send && !virtual_position;
    assign m_axis_tdata = out_data_reg;
    assign m_axis_tvalid = out_valid_reg;

    // Ends follow at the stride; those beyond the line are served one a position, from its last position on.
    wire signed [POSITION_BITS-1:0] stride_stop = stop_reg + STRIDE;
    reg  signed [POSITION_BITS-1:0] following_stop;
    always_comb begin : find_following_stop
        if (TAIL == 0 || stride_stop < LINE_END) following_stop = stride_stop;
        else if (stop_reg < LINE_END) following_stop = LINE_END;
        else following_stop = stop_reg + ONE;
    end

    always_ff @(posedge clk) begin : scan
        if (rst) begin
            inner_reg <= {INNER_BITS{1'b0}};
            position_reg <= ZERO;
            stop_reg <= FIRST_STOP;
            oldest_reg <= {SLOT_BITS{1'b0}};
        end else begin
            if (step) inner_reg <= inner_last ? {INNER_BITS{1'b0}} : inner_reg + 1'b1;
            if (next_line) begin
                position_reg <= ZERO;
                stop_reg <= FIRST_STOP;
                oldest_reg <= {SLOT_BITS{1'b0}};
            end else if (next_position) begin
                position_reg <= position_reg + ONE;
                if (completes) begin
                    stop_reg <= following_stop;
                    oldest_reg <= (oldest_reg == (SLOTS - 1)) ? {SLOT_BITS{1'b0}} : oldest_reg + 1'b1;
                end
            end
        end
    end

    // Partial maxima, all slots in one word. The address runs round and round, so the next word is read while this one is written.
    wire [SLOTS*WIDTH-1:0] partial;
    wire [SLOTS*WIDTH-1:0] partial_next;
    generate
        if (INNER == 1) begin : gen_register
            reg [SLOTS*WIDTH-1:0] partial_reg;
            assign partial = partial_reg;
            always_ff @(posedge clk) begin : store
                if (step) partial_reg <= partial_next;
            end
        end else begin : gen_memory
            wire [INNER_BITS-1:0] inner_next = inner_last ? {INNER_BITS{1'b0}} : inner_reg + 1'b1;
`ifdef FSQ_LUT4
            // The maxima loop from the memory through a comparison back into it within a cycle: a block memory of these parts is too slow for that.
            localparam STYLE = 1;
`else
            localparam STYLE = 0;
`endif
            fsq_memory #(.WIDTH(SLOTS*WIDTH), .DEPTH(INNER), .STYLE(STYLE)) maxima (
                .clk(clk), .write(step), .write_addr(inner_reg), .write_data(partial_next), .enable(step), .read_addr(inner_next), .word(partial)
            );
        end
    endgenerate

    // Greater of two values; `has_old` 0: the window begins here, nothing to compare with; `has_new` 0: a padded position.
    function automatic [BITS-1:0] greater(input has_old, input has_new, input [BITS-1:0] old_value, input [BITS-1:0] new_value);
        reg old_wins;
        begin
            if (SIGNED != 0) old_wins = $signed(old_value) > $signed(new_value);
            else old_wins = old_value > new_value;
            greater = (!has_new || (has_old && old_wins)) ? old_value : new_value;
        end
    endfunction

    wire [SLOTS*WIDTH-1:0] merged;  // each slot's window with this position included
    wire [WIDTH-1:0] finished [0:SLOTS-1];
    genvar slot;
    genvar lane;
    generate
        for (slot = 0; slot < SLOTS; slot = slot + 1) begin : gen_slot
            // First position of the window this slot holds or waits for.
            localparam signed [POSITION_BITS-1:0] FIRST_START = slot * S - PAD_BEFORE;
            reg signed [POSITION_BITS-1:0] start_reg;
            wire done = completes && oldest_reg == slot;
            wire has_old = position_reg > start_reg && position_reg > ZERO;
            wire restarts = done && (start_reg + ROUND <= position_reg);

            always_ff @(posedge clk) begin : follow
                if (rst || next_line) start_reg <= FIRST_START;
                else if (next_position && done) start_reg <= start_reg + ROUND;
            end

            for (lane = 0; lane < LANES; lane = lane + 1) begin : gen_lane
                wire [BITS-1:0] value = s_axis_tdata[lane*BITS +: BITS];
                assign merged[slot*WIDTH + lane*BITS +: BITS] =
                    greater(has_old, !virtual_position, partial[slot*WIDTH + lane*BITS +: BITS], value);
                // The window after the finished one may begin at this very position.
                assign partial_next[slot*WIDTH + lane*BITS +: BITS] =
                    (restarts && !virtual_position) ? value : merged[slot*WIDTH + lane*BITS +: BITS];
            end
            assign finished[slot] = merged[slot*WIDTH +: WIDTH];
        end
    endgenerate

    always_ff @(posedge clk) begin : output_valid
        if (rst) out_valid_reg <= 1'b0;
        else if (step && completes) out_valid_reg <= 1'b1;
        else if (m_axis_tready) out_valid_reg <= 1'b0;
    end

    always_ff @(posedge clk) begin : output_data
        if (step && completes) out_data_reg <= finished[oldest_reg];
    end
endmodule
