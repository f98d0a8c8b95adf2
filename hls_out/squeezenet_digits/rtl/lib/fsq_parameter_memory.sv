// Memory of weights, biases or shifts: initial contents from a file, or written once over the load bus.
//
// Parameters
//   WIDTH       bits of a word
//   DEPTH       words, up to 2^20
//   FILE        $readmemh file of DEPTH words; not read when LOADED = 1
//   STYLE       0: by the rule of fsq_memory; 1: LUTs; 2: block RAM; 3: UltraRAM (has no initial contents, so LOADED = 1 only)
//   LOADED      1: a RAM in columns of COLUMN bits, filled over the load bus
//   LOAD_ID     number of this memory on the load bus
//   OUTPUT_REG  1: a second register behind the read register, as block memories have one
//
// Ports
//   clk       clock; no reset
//   load_bus  {write, memory[9:0], row[19:0], column[11:0], data[71:0]}: one write; tie to zero when LOADED = 0
//   enable    read addr into the read register; the output register follows every cycle
//   addr      row to read
//   word      row read; latency 1 + OUTPUT_REG cycles
//
// Throughput one word a cycle. A row being written must not be read: the loader stops the machine meanwhile.
module fsq_parameter_memory #(
    parameter WIDTH = 64,
    parameter DEPTH = 64,
    parameter FILE = "memory.hex",
    parameter STYLE = 0,
    parameter LOADED = 0,
    parameter LOAD_ID = 0,
    parameter OUTPUT_REG = 1
) (
    input  wire                                        clk,
    input  wire [114:0]                                load_bus,
    input  wire                                        enable,
    input  wire [((DEPTH > 1) ? $clog2(DEPTH) : 1)-1:0] addr,
    output wire [WIDTH-1:0]                            word
);
    localparam ADDR_BITS = (DEPTH > 1) ? $clog2(DEPTH) : 1;
    localparam COLUMN = 72;
    localparam COLUMNS = (WIDTH + COLUMN - 1) / COLUMN;
    // The rule of fsq_memory.
`ifdef FSQ_LUT4
    localparam LUT_WORDS = 16;
    localparam LUT_BITS = 512;
`else
    localparam LUT_WORDS = 64;
    localparam LUT_BITS = 4096;
`endif
    localparam IN_LUTS = (STYLE == 1 || (STYLE == 0 && (DEPTH <= LUT_WORDS || DEPTH * WIDTH <= LUT_BITS))) ? 1 : 0;

    initial begin : check_parameters
        if (WIDTH < 1 || DEPTH < 1) $fatal(1, "fsq_parameter_memory: WIDTH=%0d DEPTH=%0d, 1 or more was expected", WIDTH, DEPTH);
        if (STYLE < 0 || STYLE > 3) $fatal(1, "fsq_parameter_memory: STYLE=%0d, 0 to 3 was expected", STYLE);
        if (STYLE == 3 && LOADED == 0) $fatal(1, "fsq_parameter_memory: STYLE=3, UltraRAM has no initial contents: LOADED=1 was expected");
        if (ADDR_BITS > 20) $fatal(1, "fsq_parameter_memory: DEPTH=%0d, at most 2^20 was expected", DEPTH);
        if (LOAD_ID < 0 || LOAD_ID > 1023) $fatal(1, "fsq_parameter_memory: LOAD_ID=%0d, 0 to 1023 was expected", LOAD_ID);
    end

    wire [WIDTH-1:0] read_word;
    generate
        if (LOADED != 0) begin : gen_loaded
            // The bus is registered here: its way from the loader may be long, and writing has time.
            reg                 write_reg;
            reg [ADDR_BITS-1:0] row_reg;
            reg [11:0]          column_reg;
            reg [COLUMN-1:0]    data_reg;
            always_ff @(posedge clk) begin : bus
                write_reg <= load_bus[114] && load_bus[113:104] == LOAD_ID;
                row_reg <= load_bus[84 +: ADDR_BITS];
                column_reg <= load_bus[83:72];
                data_reg <= load_bus[71:0];
            end
            genvar c;
            for (c = 0; c < COLUMNS; c = c + 1) begin : gen_column
                localparam BITS = (c == COLUMNS - 1) ? WIDTH - c * COLUMN : COLUMN;
                fsq_memory #(.WIDTH(BITS), .DEPTH(DEPTH), .STYLE((STYLE != 0) ? STYLE : (IN_LUTS != 0) ? 1 : 2)) memory (
                    .clk(clk), .write(write_reg && column_reg == c), .write_addr(row_reg), .write_data(data_reg[BITS-1:0]),
                    .enable(enable), .read_addr(addr), .word(read_word[c*COLUMN +: BITS])
                );
            end
        end else if (IN_LUTS != 0 && DEPTH > 8) begin : gen_lut_rom
            fsq_lut_rom #(.WIDTH(WIDTH), .DEPTH(DEPTH), .FILE(FILE)) rom (.clk(clk), .enable(enable), .addr(addr), .word(read_word));
        end else if (IN_LUTS != 0) begin : gen_small_rom
            // So few words hold few different columns: equal ones are merged with what they feed.
            reg [WIDTH-1:0] read_reg;
            assign read_word = read_reg;
`ifdef YOSYS
            (* ram_style = "logic" *) reg [WIDTH-1:0] memory [0:DEPTH-1];
`else
            (* rom_style = "distributed" *) reg [WIDTH-1:0] memory [0:DEPTH-1];
`endif
            initial $readmemh(FILE, memory);
            always_ff @(posedge clk) if (enable) read_reg <= memory[addr];
        end else begin : gen_block_rom
            reg [WIDTH-1:0] read_reg;
            assign read_word = read_reg;
            (* ram_style = "block", rom_style = "block" *) reg [WIDTH-1:0] memory [0:DEPTH-1];
            initial $readmemh(FILE, memory);
            always_ff @(posedge clk) if (enable) read_reg <= memory[addr];
        end
        if (OUTPUT_REG != 0) begin : gen_output_reg
            reg [WIDTH-1:0] output_reg;
            always_ff @(posedge clk) output_reg <= read_word;
            assign word = output_reg;
        end else begin : gen_direct
            assign word = read_word;
        end
    endgenerate
endmodule
