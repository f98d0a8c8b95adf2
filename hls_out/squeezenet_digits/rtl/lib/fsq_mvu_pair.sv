// Two dot products that share an operand, on one hardware multiplier a lane: two output channels of a pixel, or two pixels of an output channel.
//
// A multiplier computes ((hi << SHIFT) + lo) * shared = (hi * shared << SHIFT) + lo * shared. The low product is made non-negative, so that the two
// fields do not borrow from each other: the weight in question is taken in offset binary, w + 2^(WEIGHT_BITS-1), which is its bits with the highest
// one flipped, and sum(2^(WEIGHT_BITS-1) * x) is subtracted once at the end; it is the same for all output channels of a pixel and comes in `offset`.
//   MODE 1, channels: hi and lo are weights (hi signed, lo offset binary), the activation is shared; only the low sum has the offset in it.
//   MODE 2, pixels:   hi and lo are activations, the weight (offset binary) is shared; both sums have the offset of their own pixel in them.
// The low product needs P = WEIGHT_BITS + ACT_BITS bits. With SHIFT >= P, 2^(SHIFT-P) products are added before the fields are taken apart. With
// SHIFT < P (ports of 18 bits) the low P - SHIFT bits of hi * shared are computed once more in logic and subtracted to separate the fields.
//
// Parameters
//   LANES        products of either sum, 1 or more
//   MODE         1: channels, 2: pixels
//   WEIGHT_BITS  bits of a weight, two's complement, 2 to 8
//   ACT_BITS     bits of an activation, unsigned, 2 to 8
//   SHIFT        bits between the fields, 8 or more
//   SUM_BITS     bits of a result; sums are kept modulo 2^SUM_BITS
//
// Ports
//   clk               clock; the pipeline runs freely and has no reset
//   weights           MODE 1: lane i of the low channel at [i*WEIGHT_BITS +: WEIGHT_BITS], those of the high channel from LANES*WEIGHT_BITS on; MODE 2: one channel
//   acts              MODE 1: one pixel, lane i at [i*ACT_BITS +: ACT_BITS]; MODE 2: the low pixel, the high one from LANES*ACT_BITS on
//   offset_lo, _hi    2^(WEIGHT_BITS-1) * sum of the low / high pixel's activations, one cycle before the sums leave; MODE 1: offset_hi is not read
//   sum_lo, sum_hi    the dot products, two's complement
//
// Throughput one pair of dot products a cycle. Latency 2 + ceil(log2(LANES)) cycles, rounded up to whole groups, and 2 more with SHIFT < P:
// 2 + GROUP_LEVELS + ceil(log2(GROUPS)) + (SHIFT < P ? 2 : 0).
module fsq_mvu_pair #(
    parameter LANES = 8,
    parameter MODE = 1,
    parameter WEIGHT_BITS = 8,
    parameter ACT_BITS = 8,
    parameter SHIFT = 18,
    parameter SUM_BITS = 24
) (
    input  wire                                                      clk,
    input  wire [((MODE == 1) ? 2 : 1)*LANES*WEIGHT_BITS-1:0]        weights,
    input  wire [((MODE == 2) ? 2 : 1)*LANES*ACT_BITS-1:0]           acts,
    input  wire [SUM_BITS-1:0]                                       offset_lo,
    input  wire [SUM_BITS-1:0]                                       offset_hi,
    output wire signed [SUM_BITS-1:0]                                sum_lo,
    output wire signed [SUM_BITS-1:0]                                sum_hi
);
    localparam P = WEIGHT_BITS + ACT_BITS;
    localparam OVERLAP = (SHIFT < P) ? P - SHIFT : 0;
    localparam GROUP_LEVELS = (SHIFT <= P) ? 0 : (SHIFT - P < $clog2(LANES)) ? SHIFT - P : (LANES > 1) ? $clog2(LANES) : 0;
    localparam GROUP = 1 << GROUP_LEVELS;  // packed products added before separation
    localparam GROUPS = (LANES + GROUP - 1) / GROUP;
    localparam HIGH_BITS = P + ((MODE == 2) ? 1 : 0);  // a high product, signed (channels) or unsigned with a zero above (pixels)
    localparam PACKED = SHIFT + HIGH_BITS;              // bits of a packed product, two's complement
    localparam PACKED_SUM = PACKED + GROUP_LEVELS;
    localparam LOW_SUM = P + GROUP_LEVELS;              // bits of the sum of low products, unsigned
    localparam HIGH_SUM = HIGH_BITS + GROUP_LEVELS;

    initial begin : check_parameters
        if (LANES < 1) $fatal(1, "fsq_mvu_pair: LANES=%0d, 1 or more was expected", LANES);
        if (MODE != 1 && MODE != 2) $fatal(1, "fsq_mvu_pair: MODE=%0d, 1 or 2 was expected", MODE);
        if (WEIGHT_BITS < 2 || WEIGHT_BITS > 8) $fatal(1, "fsq_mvu_pair: WEIGHT_BITS=%0d, 2 to 8 was expected", WEIGHT_BITS);
        if (ACT_BITS < 2 || ACT_BITS > 8) $fatal(1, "fsq_mvu_pair: ACT_BITS=%0d, 2 to 8 was expected", ACT_BITS);
        if (SHIFT < 8) $fatal(1, "fsq_mvu_pair: SHIFT=%0d, 8 or more was expected", SHIFT);
    end

    // A product modulo 2^OVERLAP as shifted additions: written as a multiplication it would take a second hardware multiplier.
    localparam LOW_BITS = (OVERLAP > 0) ? OVERLAP : 1;
    function automatic [LOW_BITS-1:0] low_product(input [LOW_BITS-1:0] a, input [LOW_BITS-1:0] b);
        integer bit_index;
        begin
            low_product = {LOW_BITS{1'b0}};
            for (bit_index = 0; bit_index < LOW_BITS; bit_index = bit_index + 1)
                low_product = low_product + ((a << bit_index) & {LOW_BITS{b[bit_index]}});
        end
    endfunction

    // ------------------------------------------------------------------ products, packed
    wire [LANES*PACKED-1:0]   products;
    wire [LANES*LOW_BITS-1:0] low_of_high;  // the low bits of every high product, where the fields overlap
    genvar lane, group;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : gen_product
            reg signed [PACKED-1:0] product_reg;
            if (MODE == 1) begin : gen_channels
                wire [WEIGHT_BITS-1:0] lo = weights[lane*WEIGHT_BITS +: WEIGHT_BITS];
                wire [WEIGHT_BITS-1:0] hi = weights[(LANES + lane)*WEIGHT_BITS +: WEIGHT_BITS];
                wire [ACT_BITS-1:0]    x = acts[lane*ACT_BITS +: ACT_BITS];
                wire signed [SHIFT+WEIGHT_BITS-1:0] wide;
                if (SHIFT > WEIGHT_BITS) begin : gen_gap
                    assign wide = {hi, {(SHIFT-WEIGHT_BITS){1'b0}}, ~lo[WEIGHT_BITS-1], lo[WEIGHT_BITS-2:0]};
                end else begin : gen_no_gap
                    assign wide = {hi, ~lo[WEIGHT_BITS-1], lo[WEIGHT_BITS-2:0]};
                end
                wire signed [ACT_BITS:0] shared = {1'b0, x};
                always_ff @(posedge clk) begin : multiply
                    product_reg <= wide * shared;
                end
                if (OVERLAP > 0) begin : gen_overlap
                    reg [OVERLAP-1:0] low_reg;
                    always_ff @(posedge clk) low_reg <= low_product(hi[OVERLAP-1:0], x[OVERLAP-1:0]);
                    assign low_of_high[lane*OVERLAP +: OVERLAP] = low_reg;
                end
            end else begin : gen_pixels
                wire [ACT_BITS-1:0]    lo = acts[lane*ACT_BITS +: ACT_BITS];
                wire [ACT_BITS-1:0]    hi = acts[(LANES + lane)*ACT_BITS +: ACT_BITS];
                wire [WEIGHT_BITS-1:0] w = weights[lane*WEIGHT_BITS +: WEIGHT_BITS];
                wire [WEIGHT_BITS-1:0] flipped = {~w[WEIGHT_BITS-1], w[WEIGHT_BITS-2:0]};
                wire signed [SHIFT+ACT_BITS:0] wide;
                if (SHIFT > ACT_BITS) begin : gen_gap
                    assign wide = {1'b0, hi, {(SHIFT-ACT_BITS){1'b0}}, lo};
                end else begin : gen_no_gap
                    assign wide = {1'b0, hi, lo};
                end
                wire signed [WEIGHT_BITS:0] shared = {1'b0, flipped};
                always_ff @(posedge clk) begin : multiply
                    product_reg <= wide * shared;
                end
                if (OVERLAP > 0) begin : gen_overlap
                    reg [OVERLAP-1:0] low_reg;
                    always_ff @(posedge clk) low_reg <= low_product(hi[OVERLAP-1:0], flipped[OVERLAP-1:0]);
                    assign low_of_high[lane*OVERLAP +: OVERLAP] = low_reg;
                end
            end
            assign products[lane*PACKED +: PACKED] = product_reg;
        end
    endgenerate

    // ------------------------------------------------------------------ sums of groups, taken apart
    wire [GROUPS*LOW_SUM-1:0]  lows;
    wire [GROUPS*HIGH_SUM-1:0] highs;
    generate
        for (group = 0; group < GROUPS; group = group + 1) begin : gen_group
            localparam FIRST = group * GROUP;
            localparam COUNT = (LANES - FIRST < GROUP) ? LANES - FIRST : GROUP;
            localparam OWN_LEVELS = (COUNT > 1) ? $clog2(COUNT) : 0;
            wire [PACKED_SUM-1:0] packed_sum;
            if (OWN_LEVELS == GROUP_LEVELS) begin : gen_full
                fsq_adder_tree #(.TERMS(COUNT), .BITS(PACKED), .SIGNED(1), .SUM_BITS(PACKED_SUM)) tree (
                    .clk(clk), .terms(products[FIRST*PACKED +: COUNT*PACKED]), .sum(packed_sum)
                );
            end else begin : gen_short
                // The last group may have a shorter tree: zeros fill it up and vanish in synthesis, its registers keep it in step.
                fsq_adder_tree #(.TERMS(GROUP), .BITS(PACKED), .SIGNED(1), .SUM_BITS(PACKED_SUM)) tree (
                    .clk(clk), .terms({{((GROUP-COUNT)*PACKED){1'b0}}, products[FIRST*PACKED +: COUNT*PACKED]}), .sum(packed_sum)
                );
            end
            if (OVERLAP == 0) begin : gen_fields
                if (LOW_SUM > SHIFT) begin : gen_never
                    initial $fatal(1, "fsq_mvu_pair: LOW_SUM=%0d is beyond SHIFT=%0d", LOW_SUM, SHIFT);
                end else begin : gen_cut
                    assign lows[group*LOW_SUM +: LOW_SUM] = packed_sum[LOW_SUM-1:0];
                end
                assign highs[group*HIGH_SUM +: HIGH_SUM] = packed_sum[SHIFT +: HIGH_SUM];
            end else begin : gen_separate
                // First the low product, by what of the high one lies over it; then the high one by what the low one carries.
                wire [OVERLAP-1:0] over = packed_sum[SHIFT +: OVERLAP] - low_of_high[group*OVERLAP +: OVERLAP];
                reg  [P-1:0]          low_reg;
                reg  [HIGH_BITS-1:0]  above_reg;
                reg  [P-1:0]          low_again_reg;
                reg  [HIGH_BITS-1:0]  high_reg;
                always_ff @(posedge clk) begin : separate
                    low_reg <= {over, packed_sum[SHIFT-1:0]};
                    above_reg <= packed_sum[SHIFT +: HIGH_BITS];
                    low_again_reg <= low_reg;
                    high_reg <= above_reg - {{(HIGH_BITS-OVERLAP){1'b0}}, low_reg[P-1:SHIFT]};
                end
                assign lows[group*LOW_SUM +: LOW_SUM] = low_again_reg;
                assign highs[group*HIGH_SUM +: HIGH_SUM] = high_reg;
            end
        end
    endgenerate

    // ------------------------------------------------------------------ the two sums, offset taken off
    wire [SUM_BITS-1:0] total_lo;
    wire [SUM_BITS-1:0] total_hi;
    fsq_adder_tree #(.TERMS(GROUPS), .BITS(LOW_SUM), .SIGNED(0), .SUM_BITS(SUM_BITS)) tree_lo (.clk(clk), .terms(lows), .sum(total_lo));
    fsq_adder_tree #(.TERMS(GROUPS), .BITS(HIGH_SUM), .SIGNED((MODE == 1) ? 1 : 0), .SUM_BITS(SUM_BITS)) tree_hi (.clk(clk), .terms(highs), .sum(total_hi));

    reg [SUM_BITS-1:0] sum_lo_reg;
    reg [SUM_BITS-1:0] sum_hi_reg;
    always_ff @(posedge clk) begin : take_off
        sum_lo_reg <= total_lo - offset_lo;
        sum_hi_reg <= (MODE == 1) ? total_hi : total_hi - offset_hi;
    end
    assign sum_lo = sum_lo_reg;
    assign sum_hi = sum_hi_reg;
endmodule
