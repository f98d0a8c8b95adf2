// Table behind a memory of indices: every lane's index becomes the number that it stands for. Up to 64 entries are a LUT of six inputs a bit.
//
// Parameters
//   LANES       indices a word
//   INDEX_BITS  bits of an index, 1 to 6
//   BITS        bits of an entry
//   TABLE       the entries, constants: entry n at bit n*BITS
//
// Ports
//   clk      clock; no reset
//   indices  lane l's index at bit l*INDEX_BITS
//   word     lane l's entry at bit l*BITS, from registers; latency one cycle
//
// Throughput one word a cycle.
module fsq_codebook #(
    parameter LANES = 4,
    parameter INDEX_BITS = 4,
    parameter BITS = 8,
    parameter [(1<<INDEX_BITS)*BITS-1:0] TABLE = 0
) (
    input  wire                        clk,
    input  wire [LANES*INDEX_BITS-1:0] indices,
    output wire [LANES*BITS-1:0]       word
);
    initial begin : check_parameters
        if (LANES < 1 || BITS < 1) $fatal(1, "fsq_codebook: LANES=%0d BITS=%0d, 1 or more was expected", LANES, BITS);
        if (INDEX_BITS < 1 || INDEX_BITS > 6) $fatal(1, "fsq_codebook: INDEX_BITS=%0d, 1 to 6 was expected", INDEX_BITS);
    end

    reg [LANES*BITS-1:0] word_reg;
    assign word = word_reg;
    genvar l;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : gen_lane
            wire [INDEX_BITS-1:0] index = indices[l*INDEX_BITS +: INDEX_BITS];
            always_ff @(posedge clk) word_reg[l*BITS +: BITS] <= TABLE[index*BITS +: BITS];
        end
    endgenerate
endmodule
