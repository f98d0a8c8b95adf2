// AXI4-Stream skid buffer: registers both directions, so that neither tvalid/tdata nor tready has a combinational path through it.
//
// Parameters
//   WIDTH  bits of tdata, 1 or more
//
// Ports
//   clk, rst   clock; synchronous reset, active high, of the control state only (beats held are dropped)
//   s_axis_*   input; tready is a register
//   m_axis_*   output; tvalid and tdata are registers and stay as they are while tvalid is high and tready low
//
// Throughput one beat a cycle. Latency one cycle. Holds two beats: the second one catches the beat sent while tready falls.
module fsq_skid #(
    parameter WIDTH = 8
) (
    input  wire             clk,
    input  wire             rst,
    input  wire [WIDTH-1:0] s_axis_tdata,
    input  wire             s_axis_tvalid,
    output wire             s_axis_tready,
    output wire [WIDTH-1:0] m_axis_tdata,
    output wire             m_axis_tvalid,
    input  wire             m_axis_tready
);
    initial begin : check_parameters
        if (WIDTH < 1) $fatal(1, "fsq_skid: WIDTH=%0d, 1 or more was expected", WIDTH);
    end

    reg [WIDTH-1:0] out_data_reg;
    reg [WIDTH-1:0] spare_data_reg;
    reg             out_valid_reg;
    reg             spare_valid_reg;
    reg             ready_reg;

    wire push = s_axis_tvalid && ready_reg;
    wire advance = !out_valid_reg || m_axis_tready;
    wire spare_valid_next = advance ? 1'b0 : (spare_valid_reg || push);

    assign s_axis_tready = ready_reg;
    assign m_axis_tdata = out_data_reg;
    assign m_axis_tvalid = out_valid_reg;

    always_ff @(posedge clk) begin : control
        if (rst) begin
            out_valid_reg <= 1'b0;
            spare_valid_reg <= 1'b0;
            ready_reg <= 1'b0;
        end else begin
            if (advance) out_valid_reg <= spare_valid_reg || push;
            spare_valid_reg <= spare_valid_next;
            ready_reg <= !spare_valid_next;
        end
    end

    always_ff @(posedge clk) begin : data
        if (advance) out_data_reg <= spare_valid_reg ? spare_data_reg : s_axis_tdata;
        if (push) spare_data_reg <= s_axis_tdata;
    end
endmodule
