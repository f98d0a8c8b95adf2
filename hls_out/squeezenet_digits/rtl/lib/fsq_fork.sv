// Gives one stream to two consumers; each gets every beat exactly once, in its own time.
//
// Parameters
//   WIDTH  bits of tdata, 1 or more
//
// Ports
//   clk, rst      clock; synchronous reset, active high, of the control state only
//   s_axis_*      input; tready is high in the cycle in which the slower consumer takes the beat
//   m_axis_a_*, m_axis_b_*  outputs; neither waits for the other to offer tready
//
// Throughput one beat a cycle. Latency none: data and valid pass combinationally.
module fsq_fork #(
    parameter WIDTH = 8
) (
    input  wire             clk,
    input  wire             rst,
    input  wire [WIDTH-1:0] s_axis_tdata,
    input  wire             s_axis_tvalid,
    output wire             s_axis_tready,
    output wire [WIDTH-1:0] m_axis_a_tdata,
    output wire             m_axis_a_tvalid,
    input  wire             m_axis_a_tready,
    output wire [WIDTH-1:0] m_axis_b_tdata,
    output wire             m_axis_b_tvalid,
    input  wire             m_axis_b_tready
);
    initial begin : check_parameters
        if (WIDTH < 1) $fatal(1, "fsq_fork: WIDTH=%0d, 1 or more was expected", WIDTH);
    end

    // Set once a consumer has the present beat while the other still lacks it.
    reg a_done_reg;
    reg b_done_reg;

    wire a_gets = m_axis_a_tvalid && m_axis_a_tready;
    wire b_gets = m_axis_b_tvalid && m_axis_b_tready;

    assign m_axis_a_tdata = s_axis_tdata;
    assign m_axis_b_tdata = s_axis_tdata;
    assign m_axis_a_tvalid = s_axis_tvalid && !a_done_reg;
    assign m_axis_b_tvalid = s_axis_tvalid && !b_done_reg;
    assign s_axis_tready = (a_done_reg || m_axis_a_tready) && (b_done_reg || m_axis_b_tready);

    always_ff @(posedge clk) begin : control
        if (rst || (s_axis_tvalid && s_axis_tready)) begin
            a_done_reg <= 1'b0;
            b_done_reg <= 1'b0;
        end else begin
            if (a_gets) a_done_reg <= 1'b1;
            if (b_gets) b_done_reg <= 1'b1;
        end
    end
endmodule
