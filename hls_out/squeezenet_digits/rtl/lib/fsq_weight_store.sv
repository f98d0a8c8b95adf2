// Weight memory of an engine that holds its weights coded, without loss, and decodes a whole word a cycle.
//
// Parameters
//   LANES        weights a word
//   DEPTH        words, used in order and again from the start
//   BITS         bits of a weight
//   CODING       1 codebook: a memory of indices and a table; 2 sparse: a bitmap and the values of the lanes that it marks, all others are zero;
//                3: sparse, the values are indices into a table whose entry 0 is zero
//   INDEX_BITS   bits of an index (CODING 1 and 3)
//   CODEBOOK     the table, entry n at bit n*BITS (CODING 1 and 3)
//   GROUP        lanes that share a stream of values (CODING 2 and 3), the last group filled up with lanes that nothing reads
//   READ, COLUMNS, VALUE_WORDS   as in fsq_sparse_group: READ, COLUMNS, WORDS of each group
//   FILE         $readmemh file of DEPTH words: indices, lane l at bit l*INDEX_BITS; or the bitmap, lane l at bit l
//   VALUE_FILE   what the files of the values are called, before "_000.hex", "_001.hex", one for each group
//   STYLE        storage of all these memories, as in fsq_parameter_memory
//
// Ports
//   clk, rst   clock; synchronous reset, active high, of the control state only
//   ready      words may be asked for
//   valid      a word is asked for; sparse words must be asked for in order, once each
//   addr       its number
//   word       the word, lane l at bit l*BITS; latency 2 cycles and 1 (codebook), 3 (sparse) or 4 (both)
//
// Throughput one word a cycle.
module fsq_weight_store #(
    parameter LANES = 8,
    parameter DEPTH = 64,
    parameter BITS = 8,
    parameter CODING = 1,
    parameter INDEX_BITS = 4,
    parameter [(1<<INDEX_BITS)*BITS-1:0] CODEBOOK = 0,
    parameter GROUP = 8,
    parameter READ = 4,
    parameter COLUMNS = 8,
    parameter VALUE_WORDS = 64,
    parameter FILE = "weights.hex",
    parameter VALUE_FILE = "values",
    parameter STYLE = 0
) (
    input  wire                                         clk,
    input  wire                                         rst,
    output wire                                         ready,
    input  wire                                         valid,
    input  wire [((DEPTH > 1) ? $clog2(DEPTH) : 1)-1:0] addr,
    output wire [LANES*BITS-1:0]                        word
);
    localparam SPARSE = (CODING >= 2) ? 1 : 0;
    localparam GROUPS = (LANES + GROUP - 1) / GROUP;
    localparam STORED = (SPARSE != 0) ? GROUPS * GROUP : LANES * INDEX_BITS;
    localparam VALUE_BITS = (CODING == 2) ? BITS : INDEX_BITS;

    initial begin : check_parameters
        if (CODING < 1 || CODING > 3) $fatal(1, "fsq_weight_store: CODING=%0d, 1 to 3 was expected", CODING);
        if (GROUP < 1 || GROUPS > 1000) $fatal(1, "fsq_weight_store: GROUP=%0d for LANES=%0d, 1 to 1000 groups were expected", GROUP, LANES);
    end

    wire [STORED-1:0] stored;
    fsq_parameter_memory #(.WIDTH(STORED), .DEPTH(DEPTH), .FILE(FILE), .STYLE(STYLE), .OUTPUT_REG(1)) memory (
        .clk(clk), .load_bus(115'b0), .enable(1'b1), .addr(addr), .word(stored)
    );

    genvar g;
    generate
        if (SPARSE != 0) begin : gen_sparse
            reg [1:0]                          valid_reg;
            wire [GROUPS-1:0]                  group_ready;
            wire [GROUPS*GROUP*VALUE_BITS-1:0] lanes;
            always_ff @(posedge clk) begin : asked
                if (rst) valid_reg <= 2'b00;
                else valid_reg <= {valid_reg[0], valid};
            end
            assign ready = &group_ready;
            for (g = 0; g < GROUPS; g = g + 1) begin : gen_group
                localparam [7:0] HUNDREDS = 48 + g / 100;
                localparam [7:0] TENS = 48 + g / 10 % 10;
                localparam [7:0] ONES = 48 + g % 10;
                fsq_sparse_group #(
                    .LANES(GROUP), .BITS(VALUE_BITS), .READ(READ), .COLUMNS(COLUMNS), .WORDS(VALUE_WORDS),
                    .FILE({VALUE_FILE, "_", HUNDREDS, TENS, ONES, ".hex"}), .STYLE(STYLE)
                ) lanes_of_group (
                    .clk(clk), .rst(rst), .ready(group_ready[g]), .valid(valid_reg[1]), .bitmap(stored[g*GROUP +: GROUP]),
                    .word(lanes[g*GROUP*VALUE_BITS +: GROUP*VALUE_BITS])
                );
            end
            if (CODING == 3) begin : gen_table
                fsq_codebook #(.LANES(LANES), .INDEX_BITS(INDEX_BITS), .BITS(BITS), .TABLE(CODEBOOK)) codebook (
                    .clk(clk), .indices(lanes[LANES*VALUE_BITS-1:0]), .word(word)
                );
            end else begin : gen_values
                assign word = lanes[LANES*VALUE_BITS-1:0];
            end
        end else begin : gen_codebook
            assign ready = 1'b1;
            fsq_codebook #(.LANES(LANES), .INDEX_BITS(INDEX_BITS), .BITS(BITS), .TABLE(CODEBOOK)) codebook (.clk(clk), .indices(stored), .word(word));
        end
    endgenerate
endmodule
