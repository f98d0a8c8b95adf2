// Sum of TERMS numbers: a binary tree with a register behind every adder.
//
// Parameters
//   TERMS     numbers, 1 or more
//   BITS      bits of a number
//   SIGNED    1: two's complement, 0: unsigned
//   SUM_BITS  bits of the sum, which is kept modulo 2^SUM_BITS (a sum that fits is exact)
//
// Ports
//   clk    clock; the pipeline runs freely and has no reset
//   terms  number i at [i*BITS +: BITS]
//   sum    the sum
//
// Throughput one sum a cycle. Latency ceil(log2(TERMS)) cycles (TERMS = 1: wires). Every register has the exact width of what it can hold.
module fsq_adder_tree #(
    parameter TERMS = 4,
    parameter BITS = 16,
    parameter SIGNED = 1,
    parameter SUM_BITS = 18
) (
    input  wire                  clk,
    input  wire [TERMS*BITS-1:0] terms,
    output wire [SUM_BITS-1:0]   sum
);
    // Numbers in tree level l (level 0: the terms), bits of one, and where a level lies in `levels`. A zero follows an odd number of them.
    function automatic integer level_nodes(input integer level);
        integer l;
        begin
            level_nodes = TERMS;
            for (l = 0; l < level; l = l + 1) level_nodes = (level_nodes + 1) / 2;
        end
    endfunction
    function automatic integer level_width(input integer level);
        level_width = (level == 0 || BITS + level < SUM_BITS) ? BITS + level : SUM_BITS;
    endfunction
    function automatic integer level_start(input integer level);
        integer l;
        begin
            level_start = 0;
            for (l = 0; l < level; l = l + 1) level_start = level_start + (level_nodes(l) + level_nodes(l) % 2) * level_width(l);
        end
    endfunction

    localparam LEVELS = (TERMS > 1) ? $clog2(TERMS) : 0;
    localparam ROOT = level_start(LEVELS);
    localparam ROOT_BITS = level_width(LEVELS);

    initial begin : check_parameters
        if (TERMS < 1 || BITS < 1 || SUM_BITS < 1)
            $fatal(1, "fsq_adder_tree: TERMS=%0d BITS=%0d SUM_BITS=%0d, 1 or more was expected", TERMS, BITS, SUM_BITS);
    end

    // All levels in one vector, read at clock edges only, and each written as a whole: little to do for an event-driven simulator.
    wire [ROOT+ROOT_BITS-1:0] levels;
    assign levels[TERMS*BITS-1:0] = terms;

    genvar level;
    generate
        for (level = 1; level <= LEVELS; level = level + 1) begin : gen_level
            localparam IN_NODES = level_nodes(level - 1);
            localparam IN_BITS = level_width(level - 1);
            localparam IN_START = level_start(level - 1);
            localparam NODES = level_nodes(level);
            localparam WIDTH = level_width(level);
            if (IN_NODES % 2 != 0) begin : gen_zero
                assign levels[IN_START + IN_NODES*IN_BITS +: IN_BITS] = {IN_BITS{1'b0}};
            end
            reg [NODES*WIDTH-1:0] sums_reg;
            always_ff @(posedge clk) begin : add
                reg [NODES*WIDTH-1:0] sums;
                integer node;
                for (node = 0; node < NODES; node = node + 1)
                    sums[node*WIDTH +: WIDTH] =
                        $signed({(SIGNED != 0) & levels[IN_START + (2*node+1)*IN_BITS - 1], levels[IN_START + 2*node*IN_BITS +: IN_BITS]}) +
                        $signed({(SIGNED != 0) & levels[IN_START + (2*node+2)*IN_BITS - 1], levels[IN_START + (2*node+1)*IN_BITS +: IN_BITS]});
                sums_reg <= sums;
            end
            assign levels[level_start(level) +: NODES*WIDTH] = sums_reg;
        end
    endgenerate

    generate
        if (ROOT_BITS >= SUM_BITS) begin : gen_cut
            assign sum = levels[ROOT +: SUM_BITS];
        end else begin : gen_extend
            assign sum = {{(SUM_BITS-ROOT_BITS){(SIGNED != 0) & levels[ROOT+ROOT_BITS-1]}}, levels[ROOT +: ROOT_BITS]};
        end
    endgenerate
endmodule
