// ROM in LUTs with a registered read: ceil(DEPTH / 64) LUTs of six inputs a bit. A module of its own, kept whole by the synthesizer: mapped together
// with slower logic around it, yosys (ABC) breaks the tables up for area and needs four times as many LUTs.
//
// Parameters
//   WIDTH  bits of a word
//   DEPTH  words
//   FILE   $readmemh file of DEPTH words
//
// Ports
//   clk       clock; no reset
//   enable    read addr into the read register
//   addr      row to read
//   word      the read register; latency one cycle
//
// Throughput one word a cycle.
(* keep_hierarchy = "yes" *)
module fsq_lut_rom #(
    parameter WIDTH = 64,
    parameter DEPTH = 64,
    parameter FILE = "memory.hex"
) (
    input  wire                                         clk,
    input  wire                                         enable,
    input  wire [((DEPTH > 1) ? $clog2(DEPTH) : 1)-1:0] addr,
    output wire [WIDTH-1:0]                             word
);
    initial begin : check_parameters
        if (WIDTH < 1 || DEPTH < 1) $fatal(1, "fsq_lut_rom: WIDTH=%0d DEPTH=%0d, 1 or more was expected", WIDTH, DEPTH);
    end

`ifdef YOSYS
    (* ram_style = "logic" *) reg [WIDTH-1:0] memory [0:DEPTH-1];
`else
    (* rom_style = "distributed" *) reg [WIDTH-1:0] memory [0:DEPTH-1];
`endif
    initial $readmemh(FILE, memory);
    reg [WIDTH-1:0] word_reg;
    assign word = word_reg;
    always_ff @(posedge clk) if (enable) word_reg <= memory[addr];
endmodule
