// Every packed pair of products there is, against plain multiplications: 2^24 triples (hi, lo, shared) in 2^19 cycles, 32 values of hi at once.
//
// Parameters
//   MODE, SHIFT   as in fsq_mvu_pair
//   FAULT         1: the expected low product is off by one for one single triple, so that the check can be seen to fail
//
// Ports
//   clk, rst   clock; synchronous reset, active high
//   done       high when every triple was checked
//   bad        number of instances that met a wrong product
module pair_exhaustive #(
    parameter MODE = 1,
    parameter SHIFT = 19,
    parameter FAULT = 0
) (
    input  wire       clk,
    input  wire       rst,
    output wire       done,
    output wire [5:0] bad
);
    localparam LATENCY = (SHIFT < 16) ? 4 : 2;
    localparam BITS = 18;
    localparam PAIRS = 32;
    localparam COUNT = 19;  // bits of what changes with time: lo, shared, the low bits of hi

    reg [COUNT:0]           count_reg;
    reg [LATENCY*COUNT-1:0] past_reg;   // the operands of the cycles before
    reg [LATENCY-1:0]       valid_reg;
    always_ff @(posedge clk) begin : sequence_of_operands
        if (rst) begin
            count_reg <= {(COUNT+1){1'b0}};
            valid_reg <= {LATENCY{1'b0}};
        end else begin
            if (!count_reg[COUNT]) count_reg <= count_reg + 1'b1;
            valid_reg <= {valid_reg[LATENCY-2:0], !count_reg[COUNT]};
        end
        past_reg <= {past_reg[(LATENCY-1)*COUNT-1:0], count_reg[COUNT-1:0]};
    end
    assign done = count_reg[COUNT] && valid_reg == {LATENCY{1'b0}};

    wire [7:0] lo = count_reg[7:0];
    wire [7:0] shared = count_reg[15:8];
    wire [7:0] offset_lo_x = past_reg[(LATENCY-2)*COUNT + ((MODE == 1) ? 8 : 0) +: 8];  // the low pixel's activation, one cycle before the sums
    wire [7:0] then_lo = past_reg[(LATENCY-1)*COUNT +: 8];
    wire [7:0] then_shared = past_reg[(LATENCY-1)*COUNT + 8 +: 8];

    wire [PAIRS-1:0] wrong;
    genvar i;
    generate
        for (i = 0; i < PAIRS; i = i + 1) begin : gen_hi
            reg        wrong_reg;
            wire [4:0] own = i;
            wire [7:0] hi = {own, count_reg[18:16]};
            wire [7:0] offset_hi_x = {own, past_reg[(LATENCY-2)*COUNT + 16 +: 3]};
            wire [7:0] then_hi = {own, past_reg[(LATENCY-1)*COUNT + 16 +: 3]};
            wire signed [BITS-1:0] sum_lo;
            wire signed [BITS-1:0] sum_hi;
            fsq_mvu_pair #(.LANES(1), .MODE(MODE), .WEIGHT_BITS(8), .ACT_BITS(8), .SHIFT(SHIFT), .SUM_BITS(BITS)) pair (
                .clk(clk),
                .weights((MODE == 1) ? {hi, lo} : shared), .acts((MODE == 1) ? shared : {hi, lo}),
                .offset_lo({3'd0, offset_lo_x, 7'd0}), .offset_hi({3'd0, offset_hi_x, 7'd0}), .sum_lo(sum_lo), .sum_hi(sum_hi)
            );
            // The same products, each by a multiplication of its own.
            wire signed [BITS-1:0] weight_lo = (MODE == 1) ? {{(BITS-8){then_lo[7]}}, then_lo} : {{(BITS-8){then_shared[7]}}, then_shared};
            wire signed [BITS-1:0] weight_hi = (MODE == 1) ? {{(BITS-8){then_hi[7]}}, then_hi} : {{(BITS-8){then_shared[7]}}, then_shared};
            wire signed [BITS-1:0] act_lo = (MODE == 1) ? {{(BITS-8){1'b0}}, then_shared} : {{(BITS-8){1'b0}}, then_lo};
            wire signed [BITS-1:0] act_hi = (MODE == 1) ? {{(BITS-8){1'b0}}, then_shared} : {{(BITS-8){1'b0}}, then_hi};
            wire signed [BITS-1:0] fault = (FAULT != 0 && then_hi == 8'd200 && then_lo == 8'd77 && then_shared == 8'd133) ? 1 : 0;
            wire signed [BITS-1:0] product_lo = weight_lo * act_lo + fault;
            wire signed [BITS-1:0] product_hi = weight_hi * act_hi;
            always_ff @(posedge clk) begin : check
                if (rst) begin
                    wrong_reg <= 1'b0;
                end else if (valid_reg[LATENCY-1] && (sum_lo != product_lo || sum_hi != product_hi)) begin
                    wrong_reg <= 1'b1;
                end
            end
            assign wrong[i] = wrong_reg;
        end
    endgenerate

    reg [5:0] total;
    integer n;
    always_comb begin : count_wrong
        total = 6'd0;
        for (n = 0; n < PAIRS; n = n + 1) total = total + {5'd0, wrong[n]};
    end
    assign bad = total;
endmodule
