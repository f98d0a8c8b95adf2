// Serial receiver: 8 data bits, no parity, one stop bit, least significant bit first.
//
// Parameters
//   DIVISOR  clock cycles a bit, 4 or more
//
// Ports
//   clk, rst       clock; synchronous reset, active high: a byte in work is dropped
//   rxd            the line, high when idle; not synchronous to clk
//   m_axis_tdata   the byte
//   m_axis_tvalid  high for one cycle a byte: the line does not wait, so there is no tready
//   m_axis_tuser   with tvalid: the stop bit was low (another baud rate, a break, or noise)
//
// A bit is sampled once, in its middle; with DIVISOR off by up to 2 percent the last bit is still hit. A start shorter than half a bit is
// taken for a glitch. After a low stop bit nothing is received until the line was high again. Latency 9.5 bits from the start edge.
module fsq_uart_rx #(
    parameter DIVISOR = 27
) (
    input  wire       clk,
    input  wire       rst,
    input  wire       rxd,
    output wire [7:0] m_axis_tdata,
    output wire       m_axis_tvalid,
    output wire       m_axis_tuser
);
    localparam COUNT_BITS = $clog2(DIVISOR);
    localparam [COUNT_BITS-1:0] WHOLE = DIVISOR - 1;
    localparam [COUNT_BITS-1:0] HALF = DIVISOR / 2 - 1;

    initial begin : check_parameters
        if (DIVISOR < 4) $fatal(1, "fsq_uart_rx: DIVISOR=%0d, 4 or more was expected", DIVISOR);
    end

    reg [2:0]            line_reg;  // two for the clock crossing, one to see the edge
    reg                  busy_reg;
    reg [COUNT_BITS-1:0] wait_reg;
    reg [3:0]            bit_reg;   // 0: the start bit, 1 to 8: data, 9: the stop bit
    reg [7:0]            shift_reg;
    reg                  valid_reg;
    reg                  error_reg;

    wire line = line_reg[1];
    wire start = line_reg[2] && !line;

    always_ff @(posedge clk) begin : synchronise
        if (rst) line_reg <= 3'b111;
        else line_reg <= {line_reg[1:0], rxd};
    end

    always_ff @(posedge clk) begin : receive
        if (rst) begin
            busy_reg <= 1'b0;
            valid_reg <= 1'b0;
        end else begin
            valid_reg <= 1'b0;
            if (!busy_reg) begin
                busy_reg <= start;
                wait_reg <= HALF;
                bit_reg <= 4'd0;
            end else if (wait_reg != {COUNT_BITS{1'b0}}) begin
                wait_reg <= wait_reg - 1'b1;
            end else begin
                wait_reg <= WHOLE;
                bit_reg <= bit_reg + 1'b1;
                if (bit_reg == 4'd0) begin
                    busy_reg <= !line;
                end else if (bit_reg == 4'd9) begin
                    busy_reg <= 1'b0;
                    valid_reg <= 1'b1;
                    error_reg <= !line;
                end else begin
                    shift_reg <= {line, shift_reg[7:1]};
                end
            end
        end
    end

    assign m_axis_tdata = shift_reg;
    assign m_axis_tvalid = valid_reg;
    assign m_axis_tuser = error_reg;
endmodule
