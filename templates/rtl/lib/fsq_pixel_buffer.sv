// Input buffer of a 1x1, stride-1 convolution: two groups of P_PX pixels in ping-pong, each read once for every fold of output channels.
//
// Parameters
//   WIDTH     bits of a word: P_IC * ACT_BITS
//   IC_FOLDS  words a pixel: ceil(IC / P_IC)
//   OC_FOLDS  times each pixel is read: ceil(OC / P_OC)
//   P_PX      pixels a group: they come one after the other and leave side by side
//   PIXELS    pixels a frame, P_PX or more; the last group may be short
//
// Ports
//   clk, rst   clock; synchronous reset, active high, of the control state only: pixels held are dropped
//   s_axis_*   IC_FOLDS beats a pixel; tready comes from registers
//   m_axis_*   per group OC_FOLDS times its IC_FOLDS words in order, pixel p's word at bit p*WIDTH; tvalid and tdata come from registers. The
//              pixels that a short group lacks repeat its last one.
//
// Throughput one output beat a cycle; with OC_FOLDS <= P_PX one input beat a cycle as well. Latency two cycles: a word can be read out as soon as
// the last pixel's is in.
module fsq_pixel_buffer #(
    parameter WIDTH = 8,
    parameter IC_FOLDS = 2,
    parameter OC_FOLDS = 2,
    parameter P_PX = 1,
    parameter PIXELS = P_PX
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire [WIDTH-1:0]      s_axis_tdata,
    input  wire                  s_axis_tvalid,
    output wire                  s_axis_tready,
    output wire [P_PX*WIDTH-1:0] m_axis_tdata,
    output wire                  m_axis_tvalid,
    input  wire                  m_axis_tready
);
    localparam WORD_BITS = (IC_FOLDS > 1) ? $clog2(IC_FOLDS) : 1;
    localparam OC_BITS = (OC_FOLDS > 1) ? $clog2(OC_FOLDS) : 1;
    localparam PX_BITS = (P_PX > 1) ? $clog2(P_PX) : 1;
    localparam ADDR_BITS = $clog2(2 * IC_FOLDS);

    initial begin : check_parameters
        if (WIDTH < 1) $fatal(1, "fsq_pixel_buffer: WIDTH=%0d, 1 or more was expected", WIDTH);
        if (IC_FOLDS < 1 || OC_FOLDS < 1) $fatal(1, "fsq_pixel_buffer: IC_FOLDS=%0d OC_FOLDS=%0d, 1 or more was expected", IC_FOLDS, OC_FOLDS);
        if (P_PX < 1 || PIXELS < P_PX) $fatal(1, "fsq_pixel_buffer: P_PX=%0d PIXELS=%0d, P_PX from 1 to PIXELS was expected", P_PX, PIXELS);
    end

    reg [WORD_BITS-1:0]  write_word_reg;
    reg                  write_slot_reg;
    reg [WORD_BITS-1:0]  read_word_reg;
    reg                  read_slot_reg;
    reg [OC_BITS-1:0]    read_fold_reg;
    reg [1:0]            full_reg;  // whole groups held, 0 to 2
    reg                  out_valid_reg;

    wire [PX_BITS-1:0] write_px;    // pixel of the group being written
    wire               write_last;  // ... it is the group's last one
    wire push = s_axis_tvalid && s_axis_tready;
    wire write_ends = write_word_reg == IC_FOLDS - 1;
    wire advance = !out_valid_reg || m_axis_tready;
    wire present = full_reg != 2'd0 || (write_last && read_word_reg < write_word_reg);
    wire read = advance && present;
    wire word_ends = read_word_reg == IC_FOLDS - 1;
    wire fold_ends = read_fold_reg == OC_FOLDS - 1;
    wire filled = push && write_ends && write_last;
    wire freed = read && word_ends && fold_ends;

    // Slot 1 lies behind slot 0.
    wire [ADDR_BITS-1:0] write_addr = (write_slot_reg ? IC_FOLDS : 0) + write_word_reg;
    wire [ADDR_BITS-1:0] read_addr = (read_slot_reg ? IC_FOLDS : 0) + read_word_reg;

    assign s_axis_tready = full_reg != 2'd2;
    assign m_axis_tvalid = out_valid_reg;

    always_ff @(posedge clk) begin : control
        if (rst) begin
            write_word_reg <= {WORD_BITS{1'b0}};
            write_slot_reg <= 1'b0;
            read_word_reg <= {WORD_BITS{1'b0}};
            read_slot_reg <= 1'b0;
            read_fold_reg <= {OC_BITS{1'b0}};
            full_reg <= 2'd0;
            out_valid_reg <= 1'b0;
        end else begin
            full_reg <= full_reg + {1'b0, filled} - {1'b0, freed};
            if (push) write_word_reg <= write_ends ? {WORD_BITS{1'b0}} : write_word_reg + 1'b1;
            if (filled) write_slot_reg <= !write_slot_reg;
            if (advance) out_valid_reg <= present;
            if (read) read_word_reg <= word_ends ? {WORD_BITS{1'b0}} : read_word_reg + 1'b1;
            if (read && word_ends) read_fold_reg <= fold_ends ? {OC_BITS{1'b0}} : read_fold_reg + 1'b1;
            if (freed) read_slot_reg <= !read_slot_reg;
        end
    end

    generate
        if (P_PX == 1) begin : gen_one_pixel
            assign write_px = 1'b0;
            assign write_last = 1'b1;
        end else begin : gen_count_pixels
            localparam GROUPS = (PIXELS + P_PX - 1) / P_PX;
            localparam SHORT = PIXELS - (GROUPS - 1) * P_PX;  // pixels of a frame's last group
            localparam GROUP_BITS = (GROUPS > 1) ? $clog2(GROUPS) : 1;
            reg [PX_BITS-1:0]    px_reg;
            reg [GROUP_BITS-1:0] group_reg;
            wire                 last_group = group_reg == GROUPS - 1;
            assign write_px = px_reg;
            assign write_last = px_reg == ((last_group && SHORT != P_PX) ? SHORT - 1 : P_PX - 1);
            always_ff @(posedge clk) begin : count_pixels
                if (rst) begin
                    px_reg <= {PX_BITS{1'b0}};
                    group_reg <= {GROUP_BITS{1'b0}};
                end else if (push && write_ends) begin
                    px_reg <= write_last ? {PX_BITS{1'b0}} : px_reg + 1'b1;
                    if (write_last && SHORT != P_PX) group_reg <= last_group ? {GROUP_BITS{1'b0}} : group_reg + 1'b1;
                end
            end
        end
    endgenerate

    genvar p;
    generate
        for (p = 0; p < P_PX; p = p + 1) begin : gen_bank
            // A pixel is written to the banks of those behind it too: a short group is whole without a cycle of its own.
            fsq_memory #(.WIDTH(WIDTH), .DEPTH(2*IC_FOLDS)) groups (
                .clk(clk), .write(push && write_px <= p), .write_addr(write_addr), .write_data(s_axis_tdata),
                .enable(read), .read_addr(read_addr), .word(m_axis_tdata[p*WIDTH +: WIDTH])
            );
        end
    endgenerate
endmodule
