// Dot product of one output channel: LANES multipliers and an adder tree.
//
// Parameters
//   LANES        products, 1 or more
//   WEIGHT_BITS  bits of a weight, two's complement
//   ACT_BITS     bits of an activation
//   ACT_SIGNED   1: activations are two's complement, 0: unsigned
//   SUM_BITS     bits of the result. Sums are kept modulo 2^SUM_BITS, so a result that fits is exact whatever the partial sums do.
//   DELAY        cycles that the result waits, to come with that of a longer pipeline
//
// Ports
//   clk      clock; the pipeline runs freely and has no reset
//   weights  lane i at [i*WEIGHT_BITS +: WEIGHT_BITS]
//   acts     lane i at [i*ACT_BITS +: ACT_BITS]
//   sum      sum of weights * acts, two's complement
//
// Throughput one dot product a cycle. Latency 1 + ceil(log2(LANES)) + DELAY cycles.
module fsq_mvu_dot #(
    parameter LANES = 8,
    parameter WEIGHT_BITS = 8,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 0,
    parameter SUM_BITS = 24,
    parameter DELAY = 0
) (
    input  wire                                clk,
    input  wire        [LANES*WEIGHT_BITS-1:0] weights,
    input  wire        [LANES*ACT_BITS-1:0]    acts,
    output wire signed [SUM_BITS-1:0]          sum
);
    localparam PRODUCT_BITS = WEIGHT_BITS + ACT_BITS;

    initial begin : check_parameters
        if (LANES < 1) $fatal(1, "fsq_mvu_dot: LANES=%0d, 1 or more was expected", LANES);
        if (WEIGHT_BITS < 2 || WEIGHT_BITS > 16) $fatal(1, "fsq_mvu_dot: WEIGHT_BITS=%0d, 2 to 16 was expected", WEIGHT_BITS);
        if (ACT_BITS < 2 || ACT_BITS > 16) $fatal(1, "fsq_mvu_dot: ACT_BITS=%0d, 2 to 16 was expected", ACT_BITS);
        if (SUM_BITS < 1) $fatal(1, "fsq_mvu_dot: SUM_BITS=%0d, 1 or more was expected", SUM_BITS);
    end

    reg [LANES*PRODUCT_BITS-1:0] products_reg;
    always_ff @(posedge clk) begin : multiply
        reg [LANES*PRODUCT_BITS-1:0] products;  // written as a whole, once: little to do for an event-driven simulator
        reg signed [PRODUCT_BITS-1:0] product;
        integer lane;
        for (lane = 0; lane < LANES; lane = lane + 1) begin
            product = $signed(weights[lane*WEIGHT_BITS +: WEIGHT_BITS]) *
                $signed({(ACT_SIGNED != 0) & acts[lane*ACT_BITS + ACT_BITS - 1], acts[lane*ACT_BITS +: ACT_BITS]});
            products[lane*PRODUCT_BITS +: PRODUCT_BITS] = product;
        end
        products_reg <= products;
    end

    wire [SUM_BITS-1:0] total;
    fsq_adder_tree #(.TERMS(LANES), .BITS(PRODUCT_BITS), .SIGNED(1), .SUM_BITS(SUM_BITS)) tree (.clk(clk), .terms(products_reg), .sum(total));

    genvar step;
    generate
        if (DELAY == 0) begin : gen_direct
            assign sum = total;
        end else begin : gen_delay
            reg [DELAY*SUM_BITS-1:0] delay_reg;
            for (step = 0; step < DELAY; step = step + 1) begin : gen_step
                if (step == 0) begin : gen_first
                    always_ff @(posedge clk) delay_reg[0 +: SUM_BITS] <= total;
                end else begin : gen_next
                    always_ff @(posedge clk) delay_reg[step*SUM_BITS +: SUM_BITS] <= delay_reg[(step-1)*SUM_BITS +: SUM_BITS];
                end
            end
            assign sum = delay_reg[(DELAY-1)*SUM_BITS +: SUM_BITS];
        end
    endgenerate
endmodule
