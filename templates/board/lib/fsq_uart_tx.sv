// Serial transmitter: 8 data bits, no parity, one stop bit, least significant bit first.
//
// Parameters
//   DIVISOR  clock cycles a bit, 2 or more
//
// Ports
//   clk, rst   clock; synchronous reset, active high: the line goes to idle at once
//   s_axis_*   one byte a beat
//   txd        the line, high when idle; comes from a register
//
// Throughput one byte every 10 * DIVISOR cycles.
module fsq_uart_tx #(
    parameter DIVISOR = 27
) (
    input  wire       clk,
    input  wire       rst,
    input  wire [7:0] s_axis_tdata,
    input  wire       s_axis_tvalid,
    output wire       s_axis_tready,
    output wire       txd
);
    localparam COUNT_BITS = $clog2(DIVISOR);
    localparam [COUNT_BITS-1:0] WHOLE = DIVISOR - 1;

    initial begin : check_parameters
        if (DIVISOR < 2) $fatal(1, "fsq_uart_tx: DIVISOR=%0d, 2 or more was expected", DIVISOR);
    end

    reg [COUNT_BITS-1:0] wait_reg;
    reg [3:0]            left_reg;   // bits still to send, the one on the line included
    reg [8:0]            shift_reg;  // the line's bit is the lowest

    wire bit_end = wait_reg == {COUNT_BITS{1'b0}};
    assign s_axis_tready = left_reg == 4'd0 || (left_reg == 4'd1 && bit_end);
    assign txd = shift_reg[0];

    always_ff @(posedge clk) begin : send
        if (rst) begin
            wait_reg <= {COUNT_BITS{1'b0}};
            left_reg <= 4'd0;
            shift_reg <= 9'h1FF;
        end else if (s_axis_tvalid && s_axis_tready) begin
            wait_reg <= WHOLE;
            left_reg <= 4'd10;
            shift_reg <= {s_axis_tdata, 1'b0};
        end else if (left_reg != 4'd0) begin
            wait_reg <= bit_end ? WHOLE : wait_reg - 1'b1;
            if (bit_end) begin
                left_reg <= left_reg - 1'b1;
                shift_reg <= {1'b1, shift_reg[8:1]};
            end
        end
    end
endmodule
