// Matrix-vector unit, weight-stationary: P_OC dot products of LANES taps a cycle, accumulated from the bias over FOLDS beats, requantized.
//
// Parameters
//   P_OC         output channels side by side
//   LANES        activations a beat: P_K * P_IC
//   FOLDS        input beats an output beat: k_folds * ic_folds
//   OC_FOLDS     output beats a pixel: ceil(OC / P_OC)
//   WEIGHT_BITS  bits of a weight, two's complement, 2 to 16
//   ACT_BITS     bits of an activation, 2 to 16;  ACT_SIGNED  1: two's complement, 0: unsigned
//   ACC_BITS     bits of the accumulator: holds every final sum (partial sums may wrap, that is exact)
//   BIAS_BITS    bits of a bias, two's complement, at most ACC_BITS
//   SHIFT_MIN, SHIFT_MAX   range of the requantize shift over all channels
//   OUT_BITS, OUT_SIGNED   format of the result
//   WEIGHT_FILE  $readmemh file of OC_FOLDS * FOLDS words in the order of use; lane o*LANES + l at bit (o*LANES + l)*WEIGHT_BITS
//   BIAS_FILE    $readmemh file of OC_FOLDS words, lane o at bit o*BIAS_BITS
//   SHIFT_FILE   $readmemh file of OC_FOLDS words, lane o's shift - SHIFT_MIN at bit o*SHIFT_BITS; not read when SHIFT_MAX = SHIFT_MIN
//   FIFO_DEPTH   output beats to hold at least; more is taken when the pipeline's own length asks for it
//
// Ports
//   clk, rst    clock; synchronous reset, active high, of the control state only: work in flight is dropped
//   s_axis_*    OC_FOLDS * FOLDS beats a pixel, lane l at bit l*ACT_BITS; tready comes from registers
//   m_axis_*    OC_FOLDS beats a pixel, lane o at bit o*OUT_BITS; tvalid and tdata come from registers
//   high_water  largest number of beats the output FIFO held since reset
//
// Throughput one input beat a cycle under any stalls. Latency 8 + ceil(log3(LANES)) cycles from the last beat of a sum to its output.
// The pipeline runs freely: an output beat is let in only with a place reserved for it in the FIFO (credits), so nothing has to stop.
module fsq_mvu #(
    parameter P_OC = 4,
    parameter LANES = 8,
    parameter FOLDS = 2,
    parameter OC_FOLDS = 2,
    parameter WEIGHT_BITS = 8,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 0,
    parameter ACC_BITS = 24,
    parameter BIAS_BITS = 24,
    parameter SHIFT_MIN = 0,
    parameter SHIFT_MAX = 7,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 0,
    parameter WEIGHT_FILE = "weights.hex",
    parameter BIAS_FILE = "bias.hex",
    parameter SHIFT_FILE = "shift.hex",
    parameter FIFO_DEPTH = 0
) (
    input  wire                      clk,
    input  wire                      rst,
    input  wire [LANES*ACT_BITS-1:0] s_axis_tdata,
    input  wire                      s_axis_tvalid,
    output wire                      s_axis_tready,
    output wire [P_OC*OUT_BITS-1:0]  m_axis_tdata,
    output wire                      m_axis_tvalid,
    input  wire                      m_axis_tready,
    output wire [15:0]               high_water
);
    function automatic integer tree_levels(input integer lanes);
        integer nodes;
        begin
            tree_levels = 0;
            nodes = lanes;
            while (nodes > 1) begin
                nodes = (nodes + 2) / 3;
                tree_levels = tree_levels + 1;
            end
        end
    endfunction

    localparam WEIGHT_WORDS = OC_FOLDS * FOLDS;
    localparam ADDR_BITS = (WEIGHT_WORDS > 1) ? $clog2(WEIGHT_WORDS) : 1;
    localparam FOLD_BITS = (FOLDS > 1) ? $clog2(FOLDS) : 1;
    localparam OC_BITS = (OC_FOLDS > 1) ? $clog2(OC_FOLDS) : 1;
    localparam SHIFT_BITS = (SHIFT_MAX > SHIFT_MIN) ? $clog2(SHIFT_MAX - SHIFT_MIN + 1) : 1;
    localparam SUM_STAGE = 3 + tree_levels(LANES);  // cycles from accepting a beat to its dot product
    localparam DONE_STAGE = SUM_STAGE + 4;          // ... to its requantized result
    // A credit is away for the pipeline, the FIFO's register and the two registers of the way back.
    localparam DEPTH_NEEDED = (DONE_STAGE + 4 + FOLDS - 1) / FOLDS + 1;
    localparam DEPTH = (FIFO_DEPTH > DEPTH_NEEDED) ? FIFO_DEPTH : DEPTH_NEEDED;
    localparam CREDIT_BITS = $clog2(DEPTH + 1);

    initial begin : check_parameters
        if (P_OC < 1 || LANES < 1) $fatal(1, "fsq_mvu: P_OC=%0d LANES=%0d, 1 or more was expected", P_OC, LANES);
        if (FOLDS < 1 || OC_FOLDS < 1) $fatal(1, "fsq_mvu: FOLDS=%0d OC_FOLDS=%0d, 1 or more was expected", FOLDS, OC_FOLDS);
        if (BIAS_BITS < 1 || BIAS_BITS > ACC_BITS) $fatal(1, "fsq_mvu: BIAS_BITS=%0d, 1 to ACC_BITS=%0d was expected", BIAS_BITS, ACC_BITS);
        if (FIFO_DEPTH < 0) $fatal(1, "fsq_mvu: FIFO_DEPTH=%0d, 0 or more was expected", FIFO_DEPTH);
    end

    // Input side: counters, credits, weight address.
    reg [FOLD_BITS-1:0]   fold_reg;
    reg                   at_first_reg;
    reg                   at_last_reg;
    reg [ADDR_BITS-1:0]   addr_reg;
    reg [CREDIT_BITS-1:0] credit_reg;
    reg                   has_credit_reg;

    wire accept = s_axis_tvalid && s_axis_tready;
    wire spend = accept && at_last_reg;
    wire give_back = m_axis_tvalid && m_axis_tready;
    wire [CREDIT_BITS-1:0] credit_next = credit_reg + {{(CREDIT_BITS-1){1'b0}}, give_back} - {{(CREDIT_BITS-1){1'b0}}, spend};

    assign s_axis_tready = has_credit_reg || !at_last_reg;

    always_ff @(posedge clk) begin : input_control
        if (rst) begin
            fold_reg <= {FOLD_BITS{1'b0}};
            at_first_reg <= 1'b1;
            at_last_reg <= (FOLDS == 1);
            addr_reg <= {ADDR_BITS{1'b0}};
            credit_reg <= DEPTH;
            has_credit_reg <= 1'b1;
        end else begin
            credit_reg <= credit_next;
            has_credit_reg <= credit_next != {CREDIT_BITS{1'b0}};
            if (accept) begin
                addr_reg <= (addr_reg == WEIGHT_WORDS - 1) ? {ADDR_BITS{1'b0}} : addr_reg + 1'b1;
                fold_reg <= at_last_reg ? {FOLD_BITS{1'b0}} : fold_reg + 1'b1;
                at_first_reg <= at_last_reg;
                at_last_reg <= (FOLDS == 1) || (!at_last_reg && fold_reg == FOLDS - 2);
            end
        end
    end

    // Stage 1: weight word and activations. Stage 2: once more, as a block memory's output register.
    reg [P_OC*LANES*WEIGHT_BITS-1:0] weight_rom [0:WEIGHT_WORDS-1];
    reg [P_OC*LANES*WEIGHT_BITS-1:0] weight_read_reg;
    reg [P_OC*LANES*WEIGHT_BITS-1:0] weight_reg;
    reg [LANES*ACT_BITS-1:0]         act_read_reg;
    reg [LANES*ACT_BITS-1:0]         act_reg;
    initial $readmemh(WEIGHT_FILE, weight_rom);

    always_ff @(posedge clk) begin : operands
        weight_read_reg <= weight_rom[addr_reg];
        weight_reg <= weight_read_reg;
        act_read_reg <= s_axis_tdata;
        act_reg <= act_read_reg;
    end

    // Bit n of a pipe describes the beat n cycles after it was accepted.
    reg [SUM_STAGE:1]  valid_pipe_reg;
    reg [SUM_STAGE:1]  first_pipe_reg;
    reg [DONE_STAGE:1] last_pipe_reg;
    always_ff @(posedge clk) begin : flags
        if (rst) begin
            valid_pipe_reg <= {SUM_STAGE{1'b0}};
            first_pipe_reg <= {SUM_STAGE{1'b0}};
            last_pipe_reg <= {DONE_STAGE{1'b0}};
        end else begin
            valid_pipe_reg <= {valid_pipe_reg[SUM_STAGE-1:1], accept};
            first_pipe_reg <= {first_pipe_reg[SUM_STAGE-1:1], accept && at_first_reg};
            last_pipe_reg <= {last_pipe_reg[DONE_STAGE-1:1], spend};
        end
    end

    // Biases are read just before the first dot product of a sum arrives.
    reg [P_OC*BIAS_BITS-1:0] bias_rom [0:OC_FOLDS-1];
    reg [P_OC*BIAS_BITS-1:0] bias_reg;
    reg [OC_BITS-1:0]        bias_addr_reg;
    initial $readmemh(BIAS_FILE, bias_rom);

    always_ff @(posedge clk) begin : bias_address
        if (rst) bias_addr_reg <= {OC_BITS{1'b0}};
        else if (first_pipe_reg[SUM_STAGE-1]) bias_addr_reg <= (bias_addr_reg == OC_FOLDS - 1) ? {OC_BITS{1'b0}} : bias_addr_reg + 1'b1;
    end
    always_ff @(posedge clk) begin : bias_read
        if (first_pipe_reg[SUM_STAGE-1]) bias_reg <= bias_rom[bias_addr_reg];
    end

    // Shifts are read as the last dot product of a sum is added.
    wire [P_OC*SHIFT_BITS-1:0] offsets;
    generate
        if (SHIFT_MAX > SHIFT_MIN) begin : gen_shift_rom
            reg [P_OC*SHIFT_BITS-1:0] shift_rom [0:OC_FOLDS-1];
            reg [P_OC*SHIFT_BITS-1:0] shift_reg;
            reg [OC_BITS-1:0]         shift_addr_reg;
            initial $readmemh(SHIFT_FILE, shift_rom);
            always_ff @(posedge clk) begin : shift_address
                if (rst) shift_addr_reg <= {OC_BITS{1'b0}};
                else if (last_pipe_reg[SUM_STAGE]) shift_addr_reg <= (shift_addr_reg == OC_FOLDS - 1) ? {OC_BITS{1'b0}} : shift_addr_reg + 1'b1;
            end
            always_ff @(posedge clk) begin : shift_read
                if (last_pipe_reg[SUM_STAGE]) shift_reg <= shift_rom[shift_addr_reg];
            end
            assign offsets = shift_reg;
        end else begin : gen_one_shift
            assign offsets = {(P_OC*SHIFT_BITS){1'b0}};
        end
    endgenerate

    wire [P_OC*OUT_BITS-1:0] results;
    genvar o;
    generate
        for (o = 0; o < P_OC; o = o + 1) begin : gen_channel
            wire signed [ACC_BITS-1:0]  sum;
            wire signed [BIAS_BITS-1:0] bias = bias_reg[o*BIAS_BITS +: BIAS_BITS];
            reg  signed [ACC_BITS-1:0]  acc_reg;
            wire signed [ACC_BITS-1:0]  acc_from;

            fsq_mvu_dot #(
                .LANES(LANES), .WEIGHT_BITS(WEIGHT_BITS), .ACT_BITS(ACT_BITS), .ACT_SIGNED(ACT_SIGNED), .SUM_BITS(ACC_BITS)
            ) dot (
                .clk(clk), .weights(weight_reg[o*LANES*WEIGHT_BITS +: LANES*WEIGHT_BITS]), .acts(act_reg), .sum(sum)
            );

            if (FOLDS == 1) begin : gen_no_fold
                assign acc_from = bias;
            end else begin : gen_fold
                assign acc_from = first_pipe_reg[SUM_STAGE] ? bias : acc_reg;
            end
            always_ff @(posedge clk) begin : accumulate
                if (valid_pipe_reg[SUM_STAGE]) acc_reg <= acc_from + sum;
            end

            fsq_requantize #(
                .ACC_BITS(ACC_BITS), .SHIFT_MIN(SHIFT_MIN), .SHIFT_MAX(SHIFT_MAX), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED)
            ) requantize (
                .clk(clk), .acc(acc_reg), .offset(offsets[o*SHIFT_BITS +: SHIFT_BITS]), .result(results[o*OUT_BITS +: OUT_BITS])
            );
        end
    endgenerate

    // The credits leave a place for every beat that comes, so the FIFO's own ready is never needed.
    wire fifo_ready;
    wire [$clog2(DEPTH+1)-1:0] fifo_occupancy;
    wire [$clog2(DEPTH+1)-1:0] fifo_high_water;
    fsq_fifo #(.WIDTH(P_OC*OUT_BITS), .DEPTH(DEPTH)) fifo (
        .clk(clk), .rst(rst),
        .s_axis_tdata(results), .s_axis_tvalid(last_pipe_reg[DONE_STAGE]), .s_axis_tready(fifo_ready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready),
        .occupancy(fifo_occupancy), .high_water(fifo_high_water)
    );
    assign high_water = fifo_high_water;

`ifndef SYNTHESIS
    always_ff @(posedge clk) begin : credits_hold
        if (!rst && last_pipe_reg[DONE_STAGE] && !fifo_ready) $fatal(1, "fsq_mvu: a result met a full FIFO (DEPTH=%0d)", DEPTH);
    end
`endif
endmodule
