// CRC-16 of a byte stream: polynomial x^16 + x^12 + x^5 + 1, start value FFFF, most significant bit first, nothing inverted.
//
// Followed by its own CRC, high byte first, a stream gives zero.
//
// Ports
//   clk     clock
//   clear   back to the start value; wins over enable
//   enable  take `data` in
//   crc     CRC of the bytes taken since clear, the cycle after
module fsq_crc16 (
    input  wire        clk,
    input  wire        clear,
    input  wire        enable,
    input  wire [7:0]  data,
    output wire [15:0] crc
);
    reg [15:0] crc_reg;

    function automatic [15:0] advance(input [15:0] crc_in, input [7:0] value);
        integer i;
        begin
            advance = crc_in ^ {value, 8'd0};
            for (i = 0; i < 8; i = i + 1) advance = {advance[14:0], 1'b0} ^ (advance[15] ? 16'h1021 : 16'h0000);
        end
    endfunction

    always_ff @(posedge clk) begin : accumulate
        if (clear) crc_reg <= 16'hFFFF;
        else if (enable) crc_reg <= advance(crc_reg, data);
    end

    assign crc = crc_reg;
endmodule
