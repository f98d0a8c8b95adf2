// The largest class sum of a frame and its class; of equal sums the lower class. One result a frame: fsq_topk with K = 1.
//
// Parameters
//   CLASSES     sums of a frame, one a beat, class 0 first
//   SUM_BITS    bits of a signed sum
//   INDEX_BITS  bits of the class index in the output
//
// Ports
//   clk, rst    clock; synchronous reset, active high, of the control state only (the next beat is class 0)
//   s_axis_*    input: one signed sum a beat
//   m_axis_*    output: tdata = {class index, sum}, tlast always high; stable while tvalid is high and tready low
//
// Throughput one sum a cycle. Latency two cycles from the last sum.
module fsq_argmax #(
    parameter CLASSES = 10,
    parameter SUM_BITS = 32,
    parameter INDEX_BITS = 32
) (
    input  wire                           clk,
    input  wire                           rst,
    input  wire [SUM_BITS-1:0]            s_axis_tdata,
    input  wire                           s_axis_tvalid,
    output wire                           s_axis_tready,
    output wire [INDEX_BITS+SUM_BITS-1:0] m_axis_tdata,
    output wire                           m_axis_tvalid,
    input  wire                           m_axis_tready,
    output wire                           m_axis_tlast
);
    fsq_topk #(.CLASSES(CLASSES), .SUM_BITS(SUM_BITS), .INDEX_BITS(INDEX_BITS), .K(1)) best (
        .clk(clk), .rst(rst),
        .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready), .m_axis_tlast(m_axis_tlast)
    );
endmodule
