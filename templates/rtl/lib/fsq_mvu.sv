// Matrix-vector unit, weight-stationary: P_OC x P_PX dot products of LANES taps a cycle, accumulated from the bias over FOLDS beats, requantized.
//
// Parameters
//   P_OC         output channels side by side
//   P_PX         pixels side by side: they share the weights
//   LANES        activations a beat of one pixel: P_K * P_IC
//   FOLDS        input beats an output beat: k_folds * ic_folds
//   OC_FOLDS     output beats a pixel (a group of P_PX pixels): ceil(OC / P_OC)
//   WEIGHT_BITS  bits of a weight, two's complement, 2 to 16
//   ACT_BITS     bits of an activation, 2 to 16;  ACT_SIGNED  1: two's complement, 0: unsigned
//   ACC_BITS     bits of the accumulator: holds every final sum (partial sums may wrap, that is exact)
//   BIAS_BITS    bits of a bias, two's complement, at most ACC_BITS
//   SHIFT_MIN, SHIFT_MAX   range of the requantize shift over all channels
//   OUT_BITS, OUT_SIGNED   format of the result
//   PACK         two products in one hardware multiplier (fsq_mvu_pair): 0 none, 1 channels 2j and 2j+1, 2 pixels 2j and 2j+1; an odd one has its own
//   PACK_SHIFT   bits between the two products
//   WEIGHT_FILE  $readmemh file of OC_FOLDS * FOLDS words in the order of use; lane o*LANES + l at bit (o*LANES + l)*WEIGHT_BITS
//   BIAS_FILE    $readmemh file of OC_FOLDS words, lane o at bit o*BIAS_BITS
//   SHIFT_FILE   $readmemh file of OC_FOLDS words, lane o's shift - SHIFT_MIN at bit o*SHIFT_BITS; not read when SHIFT_MAX = SHIFT_MIN
//   STYLE        storage of the weights, as in fsq_parameter_memory
//   CODING       how they are stored: 0 as they are; 1 to 3 coded, as in fsq_weight_store, with INDEX_BITS, GROUP, READ, COLUMNS, VALUE_WORDS,
//                CODEBOOK and VALUE_FILE; WEIGHT_FILE then holds indices or bitmap. Not with LOADED = 1
//   LOADED       1: weights, biases and shifts come over the load bus as memories LOAD_ID, LOAD_ID + 1 and LOAD_ID + 2; the files are not read
//   FIFO_DEPTH   output beats to hold at least; more is taken when the pipeline's own length asks for it
//
// Ports
//   clk, rst    clock; synchronous reset, active high, of the control state only: work in flight is dropped
//   load_bus    writes into the memories, see fsq_parameter_memory; zero when LOADED = 0
//   s_axis_*    OC_FOLDS * FOLDS beats a group of P_PX pixels, pixel p's lane l at bit (p*LANES + l)*ACT_BITS; tready comes from registers
//   m_axis_*    OC_FOLDS beats a group, pixel p's lane o at bit (p*P_OC + o)*OUT_BITS; tvalid and tdata come from registers
//   high_water  largest number of beats the output FIFO held since reset
//
// Throughput one input beat a cycle under any stalls. Latency 8 + ceil(log2(LANES)) cycles from the last beat of a sum to its output, with PACK
// at least 1 more (fsq_mvu_pair), with CODING 1, 3 or 4 more. Sparse weights are read ahead first, some 100 cycles after reset.
// The pipeline runs freely: an output beat is let in only with a place reserved for it in the FIFO (credits), so nothing has to stop.
module fsq_mvu #(
    parameter P_OC = 4,
    parameter P_PX = 1,
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
    parameter PACK = 0,
    parameter PACK_SHIFT = 18,
    parameter STYLE = 0,
    parameter LOADED = 0,
    parameter LOAD_ID = 0,
    parameter WEIGHT_FILE = "weights.hex",
    parameter BIAS_FILE = "bias.hex",
    parameter SHIFT_FILE = "shift.hex",
    parameter FIFO_DEPTH = 0,
    parameter CODING = 0,
    parameter INDEX_BITS = 1,
    parameter GROUP = 8,
    parameter READ = 1,
    parameter COLUMNS = 1,
    parameter VALUE_WORDS = 1,
    parameter VALUE_FILE = "values",
    parameter [(1<<INDEX_BITS)*WEIGHT_BITS-1:0] CODEBOOK = 0
) (
    input  wire                           clk,
    input  wire                           rst,
    input  wire [114:0]                   load_bus,
    input  wire [P_PX*LANES*ACT_BITS-1:0] s_axis_tdata,
    input  wire                           s_axis_tvalid,
    output wire                           s_axis_tready,
    output wire [P_PX*P_OC*OUT_BITS-1:0]  m_axis_tdata,
    output wire                           m_axis_tvalid,
    input  wire                           m_axis_tready,
    output wire [15:0]                    high_water
);
    localparam WEIGHT_WORDS = OC_FOLDS * FOLDS;
    localparam ADDR_BITS = (WEIGHT_WORDS > 1) ? $clog2(WEIGHT_WORDS) : 1;
    localparam FOLD_BITS = (FOLDS > 1) ? $clog2(FOLDS) : 1;
    localparam OC_BITS = (OC_FOLDS > 1) ? $clog2(OC_FOLDS) : 1;
    localparam SHIFT_BITS = (SHIFT_MAX > SHIFT_MIN) ? $clog2(SHIFT_MAX - SHIFT_MIN + 1) : 1;
    localparam RESULTS = P_PX * P_OC;
    // Cycles from a product to its sum: the adder tree; packed, as fsq_mvu_pair states.
    localparam TREE_LEVELS = (LANES > 1) ? $clog2(LANES) : 0;
    localparam PRODUCT_BITS = WEIGHT_BITS + ACT_BITS;
    localparam GROUP_LEVELS = (PACK_SHIFT <= PRODUCT_BITS) ? 0 : (PACK_SHIFT - PRODUCT_BITS < TREE_LEVELS) ? PACK_SHIFT - PRODUCT_BITS : TREE_LEVELS;
    localparam GROUPS = (LANES + (1 << GROUP_LEVELS) - 1) >> GROUP_LEVELS;
    localparam PAIR_LEVELS = GROUP_LEVELS + ((GROUPS > 1) ? $clog2(GROUPS) : 0) + 1 + ((PACK_SHIFT < PRODUCT_BITS) ? 2 : 0);
    localparam LEVELS = (PACK != 0) ? PAIR_LEVELS : TREE_LEVELS;
    localparam DELAY = LEVELS - TREE_LEVELS;        // what an unpacked dot product waits for the packed ones
    localparam DECODE = (CODING == 0) ? 0 : (CODING == 1) ? 1 : CODING + 1;  // cycles that coded weights come later
    localparam SUM_STAGE = 3 + DECODE + LEVELS;     // cycles from accepting a beat to its dot product
    localparam DONE_STAGE = SUM_STAGE + 4;          // ... to its requantized result
    // A credit is away for the pipeline, the FIFO's register and the two registers of the way back.
    localparam DEPTH_NEEDED = (DONE_STAGE + 4 + FOLDS - 1) / FOLDS + 1;
    localparam DEPTH = (FIFO_DEPTH > DEPTH_NEEDED) ? FIFO_DEPTH : DEPTH_NEEDED;
    localparam CREDIT_BITS = $clog2(DEPTH + 1);

    initial begin : check_parameters
        if (P_OC < 1 || LANES < 1) $fatal(1, "fsq_mvu: P_OC=%0d LANES=%0d, 1 or more was expected", P_OC, LANES);
        if (FOLDS < 1 || OC_FOLDS < 1) $fatal(1, "fsq_mvu: FOLDS=%0d OC_FOLDS=%0d, 1 or more was expected", FOLDS, OC_FOLDS);
        if (BIAS_BITS < 1 || BIAS_BITS > ACC_BITS) $fatal(1, "fsq_mvu: BIAS_BITS=%0d, 1 to ACC_BITS=%0d was expected", BIAS_BITS, ACC_BITS);
        if (P_PX < 1) $fatal(1, "fsq_mvu: P_PX=%0d, 1 or more was expected", P_PX);
        if (PACK < 0 || PACK > 2) $fatal(1, "fsq_mvu: PACK=%0d, 0, 1 or 2 was expected", PACK);
        if (PACK != 0 && (ACT_SIGNED != 0 || WEIGHT_BITS > 8 || ACT_BITS > 8))
            $fatal(1, "fsq_mvu: PACK=%0d needs unsigned activations and at most 8 bits, got ACT_SIGNED=%0d WEIGHT_BITS=%0d ACT_BITS=%0d",
                PACK, ACT_SIGNED, WEIGHT_BITS, ACT_BITS);
        if (CODING < 0 || CODING > 3 || (CODING != 0 && LOADED != 0))
            $fatal(1, "fsq_mvu: CODING=%0d LOADED=%0d, CODING 0 to 3 was expected and 0 where weights are loaded", CODING, LOADED);
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

    wire store_ready;
    assign s_axis_tready = (has_credit_reg || !at_last_reg) && store_ready;

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

    // Stage 1: weight word and activations. Stage 2: once more, as a block memory's output register. DECODE more for coded weights.
    wire [P_OC*LANES*WEIGHT_BITS-1:0] weight_word;
    reg  [P_PX*LANES*ACT_BITS-1:0]    act_read_reg;
    reg  [P_PX*LANES*ACT_BITS-1:0]    act_reg;
    wire [P_PX*LANES*ACT_BITS-1:0]    act_read;
    generate
        if (CODING == 0) begin : gen_dense
            fsq_parameter_memory #(
                .WIDTH(P_OC*LANES*WEIGHT_BITS), .DEPTH(WEIGHT_WORDS), .FILE(WEIGHT_FILE), .STYLE(STYLE), .LOADED(LOADED), .LOAD_ID(LOAD_ID), .OUTPUT_REG(1)
            ) weights (
                .clk(clk), .load_bus(load_bus), .enable(1'b1), .addr(addr_reg), .word(weight_word)
            );
            assign store_ready = 1'b1;
            assign act_read = act_read_reg;
        end else begin : gen_coded
            localparam WIDTH = P_PX * LANES * ACT_BITS;
            reg [DECODE*WIDTH-1:0] act_wait_reg;
            fsq_weight_store #(
                .LANES(P_OC*LANES), .DEPTH(WEIGHT_WORDS), .BITS(WEIGHT_BITS), .CODING(CODING), .INDEX_BITS(INDEX_BITS), .CODEBOOK(CODEBOOK), .GROUP(GROUP),
                .READ(READ), .COLUMNS(COLUMNS), .VALUE_WORDS(VALUE_WORDS), .FILE(WEIGHT_FILE), .VALUE_FILE(VALUE_FILE), .STYLE(STYLE)
            ) weights (
                .clk(clk), .rst(rst), .ready(store_ready), .valid(accept), .addr(addr_reg), .word(weight_word)
            );
            if (DECODE == 1) begin : gen_one
                always_ff @(posedge clk) act_wait_reg <= act_read_reg;
            end else begin : gen_more
                always_ff @(posedge clk) act_wait_reg <= {act_wait_reg[0 +: (DECODE-1)*WIDTH], act_read_reg};
            end
            assign act_read = act_wait_reg[(DECODE-1)*WIDTH +: WIDTH];
        end
    endgenerate

    always_ff @(posedge clk) begin : operands
        act_read_reg <= s_axis_tdata;
        act_reg <= act_read;
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
    wire [P_OC*BIAS_BITS-1:0] bias_word;
    reg  [OC_BITS-1:0]        bias_addr_reg;
    fsq_parameter_memory #(
        .WIDTH(P_OC*BIAS_BITS), .DEPTH(OC_FOLDS), .FILE(BIAS_FILE), .STYLE(1), .LOADED(LOADED), .LOAD_ID(LOAD_ID + 1), .OUTPUT_REG(0)
    ) biases (
        .clk(clk), .load_bus(load_bus), .enable(first_pipe_reg[SUM_STAGE-1]), .addr(bias_addr_reg), .word(bias_word)
    );

    always_ff @(posedge clk) begin : bias_address
        if (rst) bias_addr_reg <= {OC_BITS{1'b0}};
        else if (first_pipe_reg[SUM_STAGE-1]) bias_addr_reg <= (bias_addr_reg == OC_FOLDS - 1) ? {OC_BITS{1'b0}} : bias_addr_reg + 1'b1;
    end
    // Shifts are read as the last dot product of a sum is added.
    wire [P_OC*SHIFT_BITS-1:0] offsets;
    generate
        if (SHIFT_MAX > SHIFT_MIN) begin : gen_shift_rom
            reg [OC_BITS-1:0] shift_addr_reg;
            fsq_parameter_memory #(
                .WIDTH(P_OC*SHIFT_BITS), .DEPTH(OC_FOLDS), .FILE(SHIFT_FILE), .STYLE(1), .LOADED(LOADED), .LOAD_ID(LOAD_ID + 2), .OUTPUT_REG(0)
            ) shifts (
                .clk(clk), .load_bus(load_bus), .enable(last_pipe_reg[SUM_STAGE]), .addr(shift_addr_reg), .word(offsets)
            );
            always_ff @(posedge clk) begin : shift_address
                if (rst) shift_addr_reg <= {OC_BITS{1'b0}};
                else if (last_pipe_reg[SUM_STAGE]) shift_addr_reg <= (shift_addr_reg == OC_FOLDS - 1) ? {OC_BITS{1'b0}} : shift_addr_reg + 1'b1;
            end
        end else begin : gen_one_shift
            assign offsets = {(P_OC*SHIFT_BITS){1'b0}};
        end
    endgenerate

    // Dot products: pixel p's channel o at (p*P_OC + o)*ACC_BITS.
    wire [RESULTS*ACC_BITS-1:0] sums;
    wire [P_PX*ACC_BITS-1:0]    pixel_offsets;
    genvar p, o, d;
    generate
        if (PACK != 0) begin : gen_offsets
            // What the offset-binary weights of fsq_mvu_pair add: 2^(WEIGHT_BITS-1) times the sum of a pixel's activations.
            localparam TOTAL_BITS = ACT_BITS + TREE_LEVELS;
            for (p = 0; p < P_PX; p = p + 1) begin : gen_pixel
                wire [TOTAL_BITS-1:0] total;
                reg  [DELAY*TOTAL_BITS-1:0] total_reg;
                wire [TOTAL_BITS+WEIGHT_BITS-2:0] scaled = {total_reg[(DELAY-1)*TOTAL_BITS +: TOTAL_BITS], {(WEIGHT_BITS-1){1'b0}}};
                fsq_adder_tree #(.TERMS(LANES), .BITS(ACT_BITS), .SIGNED(0), .SUM_BITS(TOTAL_BITS)) tree (
                    .clk(clk), .terms(act_reg[p*LANES*ACT_BITS +: LANES*ACT_BITS]), .sum(total)
                );
                for (d = 0; d < DELAY; d = d + 1) begin : gen_delay
                    if (d == 0) begin : gen_first
                        always_ff @(posedge clk) total_reg[0 +: TOTAL_BITS] <= total;
                    end else begin : gen_next
                        always_ff @(posedge clk) total_reg[d*TOTAL_BITS +: TOTAL_BITS] <= total_reg[(d-1)*TOTAL_BITS +: TOTAL_BITS];
                    end
                end
                if (ACC_BITS > TOTAL_BITS + WEIGHT_BITS - 1) begin : gen_extend
                    assign pixel_offsets[p*ACC_BITS +: ACC_BITS] = {{(ACC_BITS-TOTAL_BITS-WEIGHT_BITS+1){1'b0}}, scaled};
                end else begin : gen_cut
                    assign pixel_offsets[p*ACC_BITS +: ACC_BITS] = scaled[ACC_BITS-1:0];
                end
            end
        end else begin : gen_no_offsets
            assign pixel_offsets = {(P_PX*ACC_BITS){1'b0}};
        end

        for (p = 0; p < P_PX; p = p + 1) begin : gen_dot_pixel
            for (o = 0; o < P_OC; o = o + 1) begin : gen_dot_channel
                if (PACK == 1 && o % 2 == 0 && o + 1 < P_OC) begin : gen_channels
                    fsq_mvu_pair #(
                        .LANES(LANES), .MODE(1), .WEIGHT_BITS(WEIGHT_BITS), .ACT_BITS(ACT_BITS), .SHIFT(PACK_SHIFT), .SUM_BITS(ACC_BITS)
                    ) pair (
                        .clk(clk), .weights(weight_word[o*LANES*WEIGHT_BITS +: 2*LANES*WEIGHT_BITS]), .acts(act_reg[p*LANES*ACT_BITS +: LANES*ACT_BITS]),
                        .offset_lo(pixel_offsets[p*ACC_BITS +: ACC_BITS]), .offset_hi({ACC_BITS{1'b0}}),
                        .sum_lo(sums[(p*P_OC + o)*ACC_BITS +: ACC_BITS]), .sum_hi(sums[(p*P_OC + o + 1)*ACC_BITS +: ACC_BITS])
                    );
                end else if (PACK == 2 && p % 2 == 0 && p + 1 < P_PX) begin : gen_pixels
                    fsq_mvu_pair #(
                        .LANES(LANES), .MODE(2), .WEIGHT_BITS(WEIGHT_BITS), .ACT_BITS(ACT_BITS), .SHIFT(PACK_SHIFT), .SUM_BITS(ACC_BITS)
                    ) pair (
                        .clk(clk), .weights(weight_word[o*LANES*WEIGHT_BITS +: LANES*WEIGHT_BITS]), .acts(act_reg[p*LANES*ACT_BITS +: 2*LANES*ACT_BITS]),
                        .offset_lo(pixel_offsets[p*ACC_BITS +: ACC_BITS]), .offset_hi(pixel_offsets[(p+1)*ACC_BITS +: ACC_BITS]),
                        .sum_lo(sums[(p*P_OC + o)*ACC_BITS +: ACC_BITS]), .sum_hi(sums[((p+1)*P_OC + o)*ACC_BITS +: ACC_BITS])
                    );
                end else if (PACK == 0 || (PACK == 1 && o % 2 == 0) || (PACK == 2 && p % 2 == 0)) begin : gen_single
                    fsq_mvu_dot #(
                        .LANES(LANES), .WEIGHT_BITS(WEIGHT_BITS), .ACT_BITS(ACT_BITS), .ACT_SIGNED(ACT_SIGNED), .SUM_BITS(ACC_BITS), .DELAY(DELAY)
                    ) dot (
                        .clk(clk), .weights(weight_word[o*LANES*WEIGHT_BITS +: LANES*WEIGHT_BITS]), .acts(act_reg[p*LANES*ACT_BITS +: LANES*ACT_BITS]),
                        .sum(sums[(p*P_OC + o)*ACC_BITS +: ACC_BITS])
                    );
                end
            end
        end
    endgenerate

    wire [RESULTS*OUT_BITS-1:0] results;
    genvar n;
    generate
        for (n = 0; n < RESULTS; n = n + 1) begin : gen_result
            wire signed [ACC_BITS-1:0]  sum = sums[n*ACC_BITS +: ACC_BITS];
            wire signed [BIAS_BITS-1:0] bias = bias_word[(n % P_OC)*BIAS_BITS +: BIAS_BITS];
            reg  signed [ACC_BITS-1:0]  acc_reg;
            wire signed [ACC_BITS-1:0]  acc_from;

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
                .clk(clk), .acc(acc_reg), .offset(offsets[(n % P_OC)*SHIFT_BITS +: SHIFT_BITS]), .result(results[n*OUT_BITS +: OUT_BITS])
            );
        end
    endgenerate

    // The credits leave a place for every beat that comes, so the FIFO's own ready is never needed.
    wire fifo_ready;
    wire [$clog2(DEPTH+1)-1:0] fifo_occupancy;
    wire [$clog2(DEPTH+1)-1:0] fifo_high_water;
    fsq_fifo #(.WIDTH(RESULTS*OUT_BITS), .DEPTH(DEPTH)) fifo (
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
