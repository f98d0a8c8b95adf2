// RAM with one write and one read port, the read registered, in LUTs or in block memory by one rule.
//
// The rule (hardware/packing.py counts by the same): a memory goes to LUTs when it has at most LUT_WORDS words, or at most LUT_BITS bits; a block would
// be nearly empty. With LUTs of six inputs that is 64 words or 4096 bits, with LUTs of four (FSQ_LUT4 defined: Lattice) 16 words or 512 bits.
// fsq_fifo and fsq_parameter_memory keep to it too.
//
// Parameters
//   WIDTH  bits of a word
//   DEPTH  words
//   STYLE  0: by the rule; 1: LUTs; 2: block memory; 3: UltraRAM
//
// Ports
//   clk         clock; no reset
//   write       store write_data at write_addr
//   enable      read read_addr into the read register, which otherwise keeps its word
//   word        the read register; latency one cycle
//
// Throughput one word a cycle each way. A word must not be read in the cycle in which it is written: what comes then is not defined in hardware (the
// old word in simulation). Every user either never reads it or drops what it read.
module fsq_memory #(
    parameter WIDTH = 8,
    parameter DEPTH = 64,
    parameter STYLE = 0
) (
    input  wire                                         clk,
    input  wire                                         write,
    input  wire [((DEPTH > 1) ? $clog2(DEPTH) : 1)-1:0] write_addr,
    input  wire [WIDTH-1:0]                             write_data,
    input  wire                                         enable,
    input  wire [((DEPTH > 1) ? $clog2(DEPTH) : 1)-1:0] read_addr,
    output wire [WIDTH-1:0]                             word
);
`ifdef FSQ_LUT4
    localparam LUT_WORDS = 16;
    localparam LUT_BITS = 512;
`else
    localparam LUT_WORDS = 64;
    localparam LUT_BITS = 4096;
`endif
    localparam IN_LUTS = (STYLE == 1 || (STYLE == 0 && (DEPTH <= LUT_WORDS || DEPTH * WIDTH <= LUT_BITS))) ? 1 : 0;

    initial begin : check_parameters
        if (WIDTH < 1 || DEPTH < 1) $fatal(1, "fsq_memory: WIDTH=%0d DEPTH=%0d, 1 or more was expected", WIDTH, DEPTH);
        if (STYLE < 0 || STYLE > 3) $fatal(1, "fsq_memory: STYLE=%0d, 0 to 3 was expected", STYLE);
    end

    reg [WIDTH-1:0] word_reg;
    assign word = word_reg;
    generate
        if (IN_LUTS != 0) begin : gen_lut
            (* ram_style = "distributed", no_rw_check *) reg [WIDTH-1:0] memory [0:DEPTH-1];
            always_ff @(posedge clk) if (write) memory[write_addr] <= write_data;
            always_ff @(posedge clk) if (enable) word_reg <= memory[read_addr];
        end else if (STYLE == 3) begin : gen_ultra
            (* ram_style = "ultra", no_rw_check *) reg [WIDTH-1:0] memory [0:DEPTH-1];
            always_ff @(posedge clk) if (write) memory[write_addr] <= write_data;
            always_ff @(posedge clk) if (enable) word_reg <= memory[read_addr];
        end else begin : gen_block
            (* ram_style = "block", no_rw_check *) reg [WIDTH-1:0] memory [0:DEPTH-1];
            always_ff @(posedge clk) if (write) memory[write_addr] <= write_data;
            always_ff @(posedge clk) if (enable) word_reg <= memory[read_addr];
        end
    endgenerate
endmodule
