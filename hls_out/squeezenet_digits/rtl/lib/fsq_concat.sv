// Channel concatenation of two streams: per pixel the first stream's beats, then the second one's.
//
// Parameters
//   WIDTH         bits of a beat, the same on all three streams
//   FIRST_BEATS   beats of the first stream a pixel
//   SECOND_BEATS  beats of the second stream a pixel
//
// Ports
//   clk, rst        clock; synchronous reset, active high, of the control state only: the next beat begins a pixel
//   s_first_axis_*  first stream
//   s_second_axis_* second stream
//   m_axis_*        their beats in turn; FIRST_BEATS + SECOND_BEATS beats a pixel
//
// Throughput one beat a cycle. Latency none: only the choice of the stream is a register, tvalid, tdata and tready pass through.
module fsq_concat #(
    parameter WIDTH = 8,
    parameter FIRST_BEATS = 1,
    parameter SECOND_BEATS = 1
) (
    input  wire             clk,
    input  wire             rst,
    input  wire [WIDTH-1:0] s_first_axis_tdata,
    input  wire             s_first_axis_tvalid,
    output wire             s_first_axis_tready,
    input  wire [WIDTH-1:0] s_second_axis_tdata,
    input  wire             s_second_axis_tvalid,
    output wire             s_second_axis_tready,
    output wire [WIDTH-1:0] m_axis_tdata,
    output wire             m_axis_tvalid,
    input  wire             m_axis_tready
);
    localparam MOST = (FIRST_BEATS > SECOND_BEATS) ? FIRST_BEATS : SECOND_BEATS;
    localparam COUNT_BITS = (MOST > 1) ? $clog2(MOST) : 1;

    initial begin : check_parameters
        if (WIDTH < 1) $fatal(1, "fsq_concat: WIDTH=%0d, 1 or more was expected", WIDTH);
        if (FIRST_BEATS < 1 || SECOND_BEATS < 1)
            $fatal(1, "fsq_concat: FIRST_BEATS=%0d SECOND_BEATS=%0d, 1 or more was expected", FIRST_BEATS, SECOND_BEATS);
    end

    reg                  second_reg;
    reg [COUNT_BITS-1:0] count_reg;

    wire moved = m_axis_tvalid && m_axis_tready;
    wire ends = count_reg == (second_reg ? SECOND_BEATS - 1 : FIRST_BEATS - 1);

    assign m_axis_tdata = second_reg ? s_second_axis_tdata : s_first_axis_tdata;
    assign m_axis_tvalid = second_reg ? s_second_axis_tvalid : s_first_axis_tvalid;
    assign s_first_axis_tready = !second_reg && m_axis_tready;
    assign s_second_axis_tready = second_reg && m_axis_tready;

    always_ff @(posedge clk) begin : turns
        if (rst) begin
            second_reg <= 1'b0;
            count_reg <= {COUNT_BITS{1'b0}};
        end else if (moved) begin
            second_reg <= second_reg ^ ends;
            count_reg <= ends ? {COUNT_BITS{1'b0}} : count_reg + 1'b1;
        end
    end
endmodule
