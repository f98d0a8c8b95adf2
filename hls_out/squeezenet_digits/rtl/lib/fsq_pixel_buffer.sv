// Input buffer of a 1x1, stride-1 convolution: two pixels in ping-pong, each read once for every fold of output channels.
//
// Parameters
//   WIDTH     bits of a word: P_IC * ACT_BITS
//   IC_FOLDS  words a pixel: ceil(IC / P_IC)
//   OC_FOLDS  times each pixel is read: ceil(OC / P_OC)
//
// Ports
//   clk, rst   clock; synchronous reset, active high, of the control state only: pixels held are dropped
//   s_axis_*   IC_FOLDS beats a pixel; tready comes from registers
//   m_axis_*   per pixel OC_FOLDS times its IC_FOLDS words in order; tvalid and tdata come from registers
//
// Throughput one output beat a cycle; with OC_FOLDS = 1 one input beat a cycle as well. Latency two cycles: a word can be read out as soon as it is in.
module fsq_pixel_buffer #(
    parameter WIDTH = 8,
    parameter IC_FOLDS = 2,
    parameter OC_FOLDS = 2
) (
    input  wire             clk,
    input  wire             rst,
    input  wire [WIDTH-1:0] s_axis_tdata,
    input  wire             s_axis_tvalid,
    output wire             s_axis_tready,
    output wire [WIDTH-1:0] m_axis_tdata,
    output wire             m_axis_tvalid,
    input  wire             m_axis_tready
);
    localparam WORD_BITS = (IC_FOLDS > 1) ? $clog2(IC_FOLDS) : 1;
    localparam OC_BITS = (OC_FOLDS > 1) ? $clog2(OC_FOLDS) : 1;
    localparam ADDR_BITS = $clog2(2 * IC_FOLDS);

    initial begin : check_parameters
        if (WIDTH < 1) $fatal(1, "fsq_pixel_buffer: WIDTH=%0d, 1 or more was expected", WIDTH);
        if (IC_FOLDS < 1 || OC_FOLDS < 1) $fatal(1, "fsq_pixel_buffer: IC_FOLDS=%0d OC_FOLDS=%0d, 1 or more was expected", IC_FOLDS, OC_FOLDS);
    end

    reg [WIDTH-1:0]     memory [0:2*IC_FOLDS-1];
    reg [WORD_BITS-1:0] write_word_reg;
    reg                 write_slot_reg;
    reg [WORD_BITS-1:0] read_word_reg;
    reg                 read_slot_reg;
    reg [OC_BITS-1:0]   read_fold_reg;
    reg [1:0]           full_reg;  // whole pixels held, 0 to 2
    reg                 out_valid_reg;
    reg [WIDTH-1:0]     out_data_reg;

    wire push = s_axis_tvalid && s_axis_tready;
    wire write_ends = write_word_reg == IC_FOLDS - 1;
    wire advance = !out_valid_reg || m_axis_tready;
    wire present = full_reg != 2'd0 || read_word_reg < write_word_reg;
    wire read = advance && present;
    wire word_ends = read_word_reg == IC_FOLDS - 1;
    wire fold_ends = read_fold_reg == OC_FOLDS - 1;
    wire filled = push && write_ends;
    wire freed = read && word_ends && fold_ends;

    // Slot 1 lies behind slot 0.
    wire [ADDR_BITS-1:0] write_addr = (write_slot_reg ? IC_FOLDS : 0) + write_word_reg;
    wire [ADDR_BITS-1:0] read_addr = (read_slot_reg ? IC_FOLDS : 0) + read_word_reg;

    assign s_axis_tready = full_reg != 2'd2;
    assign m_axis_tvalid = out_valid_reg;
    assign m_axis_tdata = out_data_reg;

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

    always_ff @(posedge clk) begin : store
        if (push) memory[write_addr] <= s_axis_tdata;
    end
    always_ff @(posedge clk) begin : fetch
        if (read) out_data_reg <= memory[read_addr];
    end
endmodule
