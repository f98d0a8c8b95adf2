// Dot product of one output channel: LANES multipliers and a registered adder tree, three operands an adder.
//
// Parameters
//   LANES        products, 1 or more
//   WEIGHT_BITS  bits of a weight, two's complement
//   ACT_BITS     bits of an activation
//   ACT_SIGNED   1: activations are two's complement, 0: unsigned
//   SUM_BITS     bits of the result. Sums are kept modulo 2^SUM_BITS, so a result that fits is exact whatever the partial sums do.
//
// Ports
//   clk      clock; the pipeline runs freely and has no reset
//   weights  lane i at [i*WEIGHT_BITS +: WEIGHT_BITS]
//   acts     lane i at [i*ACT_BITS +: ACT_BITS]
//   sum      sum of weights * acts, two's complement
//
// Throughput one dot product a cycle. Latency 1 + ceil(log3(LANES)) cycles. Every register has the exact width of what it can hold.
module fsq_mvu_dot #(
    parameter LANES = 8,
    parameter WEIGHT_BITS = 8,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 0,
    parameter SUM_BITS = 24
) (
    input  wire                                clk,
    input  wire        [LANES*WEIGHT_BITS-1:0] weights,
    input  wire        [LANES*ACT_BITS-1:0]    acts,
    output wire signed [SUM_BITS-1:0]          sum
);
    localparam PRODUCT_BITS = WEIGHT_BITS + ACT_BITS;
    localparam NODE_BITS = PRODUCT_BITS + $clog2(LANES + 1);  // widest partial sum

    // Nodes of tree level l (level 0: the products), the first node of a level, levels above the products, products below one node.
    function automatic integer level_nodes(input integer level);
        integer l;
        begin
            level_nodes = LANES;
            for (l = 0; l < level; l = l + 1) level_nodes = (level_nodes + 2) / 3;
        end
    endfunction
    function automatic integer level_start(input integer level);
        integer l;
        begin
            level_start = 0;
            for (l = 0; l < level; l = l + 1) level_start = level_start + level_nodes(l);
        end
    endfunction
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
    function automatic integer products_below(input integer level);
        integer l;
        begin
            products_below = 1;
            for (l = 0; l < level; l = l + 1) products_below = products_below * 3;
            if (products_below > LANES) products_below = LANES;
        end
    endfunction
    function automatic integer minimum(input integer a, input integer b);
        minimum = (a < b) ? a : b;
    endfunction

    localparam LEVELS = tree_levels(LANES);
    localparam ROOT = level_start(LEVELS);

    initial begin : check_parameters
        if (LANES < 1) $fatal(1, "fsq_mvu_dot: LANES=%0d, 1 or more was expected", LANES);
        if (WEIGHT_BITS < 2 || WEIGHT_BITS > 16) $fatal(1, "fsq_mvu_dot: WEIGHT_BITS=%0d, 2 to 16 was expected", WEIGHT_BITS);
        if (ACT_BITS < 2 || ACT_BITS > 16) $fatal(1, "fsq_mvu_dot: ACT_BITS=%0d, 2 to 16 was expected", ACT_BITS);
        if (SUM_BITS < 1) $fatal(1, "fsq_mvu_dot: SUM_BITS=%0d, 1 or more was expected", SUM_BITS);
    end

    // Sign-extended views of the registers, products first, then level by level.
    wire signed [NODE_BITS-1:0] node [0:ROOT];

    genvar lane, level, index;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : gen_product
            wire signed [WEIGHT_BITS-1:0]  weight = weights[lane*WEIGHT_BITS +: WEIGHT_BITS];
            wire signed [ACT_BITS:0]       act = {(ACT_SIGNED != 0) & acts[lane*ACT_BITS + ACT_BITS - 1], acts[lane*ACT_BITS +: ACT_BITS]};
            reg  signed [PRODUCT_BITS-1:0] product_reg;
            always_ff @(posedge clk) product_reg <= weight * act;
            assign node[lane] = {{(NODE_BITS - PRODUCT_BITS){product_reg[PRODUCT_BITS-1]}}, product_reg};
        end

        for (level = 1; level <= LEVELS; level = level + 1) begin : gen_level
            localparam BITS = PRODUCT_BITS + $clog2(products_below(level));
            localparam BELOW = level_start(level - 1);
            localparam HERE = level_start(level);
            for (index = 0; index < level_nodes(level); index = index + 1) begin : gen_node
                localparam LEFT = BELOW + 3 * index;
                localparam COUNT = minimum(3, level_nodes(level - 1) - 3 * index);
                reg signed [BITS-1:0] sum_reg;
                if (COUNT == 3) begin : gen_three
                    always_ff @(posedge clk) sum_reg <= node[LEFT][BITS-1:0] + node[LEFT+1][BITS-1:0] + node[LEFT+2][BITS-1:0];
                end else if (COUNT == 2) begin : gen_two
                    always_ff @(posedge clk) sum_reg <= node[LEFT][BITS-1:0] + node[LEFT+1][BITS-1:0];
                end else begin : gen_one
                    always_ff @(posedge clk) sum_reg <= node[LEFT][BITS-1:0];
                end
                assign node[HERE+index] = {{(NODE_BITS - BITS){sum_reg[BITS-1]}}, sum_reg};
            end
        end

        if (SUM_BITS > NODE_BITS) begin : gen_extend
            assign sum = {{(SUM_BITS - NODE_BITS){node[ROOT][NODE_BITS-1]}}, node[ROOT]};
        end else begin : gen_truncate
            assign sum = node[ROOT][SUM_BITS-1:0];
        end
    endgenerate
endmodule
