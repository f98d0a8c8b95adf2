// A pattern of open and closed cycles from a seed: open for 1 + (random & on), closed for 1 + (random & off) cycles, in turn. Simulation only.
//
// Ports
//   clk, rst   clock; reset begins the pattern again, open
//   seed       seed of the xorshift generator
//   on, off    masks of the run lengths, 2^n - 1
//   stall      0: always open
//   open       this cycle may pass a beat
module fsq_sim_gate (
    input  wire        clk,
    input  wire        rst,
    input  wire [31:0] seed,
    input  wire [31:0] on,
    input  wire [31:0] off,
    input  wire        stall,
    output reg         open
);
    reg [31:0] random;
    reg [31:0] left;

    function automatic [31:0] xorshift(input [31:0] value);
        reg [31:0] v;
        begin
            v = value;
            v = v ^ (v << 13);
            v = v ^ (v >> 17);
            xorshift = v ^ (v << 5);
        end
    endfunction

    always @(posedge clk) begin : pattern
        if (rst) begin
            random <= (seed == 0) ? 32'h9e3779b9 : seed;
            left <= 0;
            open <= 1'b1;
        end else if (stall) begin
            random <= xorshift(random);
            if (left != 0) left <= left - 1;
            else begin
                open <= !open;
                left <= (random >> 3) & (open ? off : on);
            end
        end
    end
endmodule
