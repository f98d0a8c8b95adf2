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
    // Nodes of tree level l (level 0: the terms), the first node of a level.
    function automatic integer level_nodes(input integer level);
        integer l;
        begin
            level_nodes = TERMS;
            for (l = 0; l < level; l = l + 1) level_nodes = (level_nodes + 1) / 2;
        end
    endfunction
    function automatic integer level_start(input integer level);
        integer l;
        begin
            level_start = 0;
            for (l = 0; l < level; l = l + 1) level_start = level_start + level_nodes(l);
        end
    endfunction
    function automatic integer minimum(input integer a, input integer b);
        minimum = (a < b) ? a : b;
    endfunction

    localparam LEVELS = (TERMS > 1) ? $clog2(TERMS) : 0;
    localparam ROOT = level_start(LEVELS);

    initial begin : check_parameters
        if (TERMS < 1 || BITS < 1 || SUM_BITS < 1)
            $fatal(1, "fsq_adder_tree: TERMS=%0d BITS=%0d SUM_BITS=%0d, 1 or more was expected", TERMS, BITS, SUM_BITS);
    end

    // Views of the registers extended to SUM_BITS, terms first, then level by level.
    wire [SUM_BITS-1:0] node [0:ROOT];

    genvar term, level, index;
    generate
        for (term = 0; term < TERMS; term = term + 1) begin : gen_term
            if (BITS >= SUM_BITS) begin : gen_cut
                assign node[term] = terms[term*BITS +: SUM_BITS];
            end else begin : gen_extend
                assign node[term] = {{(SUM_BITS-BITS){(SIGNED != 0) & terms[term*BITS + BITS - 1]}}, terms[term*BITS +: BITS]};
            end
        end
        for (level = 1; level <= LEVELS; level = level + 1) begin : gen_level
            localparam WIDTH = minimum(SUM_BITS, BITS + level);
            for (index = 0; index < level_nodes(level); index = index + 1) begin : gen_node
                localparam FIRST = level_start(level - 1) + 2 * index;
                reg [WIDTH-1:0] sum_reg;
                if (FIRST + 1 < level_start(level)) begin : gen_add
                    always_ff @(posedge clk) begin : add
                        sum_reg <= node[FIRST][WIDTH-1:0] + node[FIRST + 1][WIDTH-1:0];
                    end
                end else begin : gen_pass
                    always_ff @(posedge clk) begin : pass
                        sum_reg <= node[FIRST][WIDTH-1:0];
                    end
                end
                if (WIDTH == SUM_BITS) begin : gen_full
                    assign node[level_start(level) + index] = sum_reg;
                end else begin : gen_wide
                    assign node[level_start(level) + index] = {{(SUM_BITS-WIDTH){(SIGNED != 0) & sum_reg[WIDTH-1]}}, sum_reg};
                end
            end
        end
    endgenerate

    assign sum = node[ROOT];
endmodule
