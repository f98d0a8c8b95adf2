// Streaming max pool: K x K windows at stride S over frames of IH x IW pixels, padded positions never win.
//
// Parameters
//   CHANNELS                       channels of a pixel; a pixel is ceil(CHANNELS/LANES) beats in and out
//   LANES, BITS                    channels a beat carries, bits of a value
//   SIGNED                         1: values are two's complement, 0: unsigned
//   IH, IW                         input height and width
//   K, S                           window and stride
//   PAD_TOP, PAD_LEFT              padding before, less than K
//   PAD_BOTTOM, PAD_RIGHT          padding after, the overhang of ceil mode included
//
// Ports
//   clk, rst   clock; synchronous reset, active high, of the control state only (the next beat begins a frame)
//   s_axis_*   input, row by row, pixel by pixel
//   m_axis_*   output in the same order, registered; tdata and tvalid stay as they are while tvalid is high and tready low
//
// Memory ceil((K-1)/S) rows of OW pixels of partial maxima (one row for 3x3/2 and 2x2/2), plus as many pixels for the columns.
// Throughput one input beat a cycle, frames back to back without a bubble, while the output is taken. Only where several windows end beyond the
// edge (such as K=3, S=1, padding 1) rows and frames take a pixel or a row more; see fsq_window_max.
// Latency three cycles from the beat that completes a window.
module fsq_max_pool #(
    parameter CHANNELS = 8,
    parameter LANES = 4,
    parameter BITS = 8,
    parameter SIGNED = 0,
    parameter IH = 8,
    parameter IW = 8,
    parameter K = 3,
    parameter S = 2,
    parameter PAD_TOP = 0,
    parameter PAD_LEFT = 0,
    parameter PAD_BOTTOM = 0,
    parameter PAD_RIGHT = 0
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire [LANES*BITS-1:0] s_axis_tdata,
    input  wire                  s_axis_tvalid,
    output wire                  s_axis_tready,
    output wire [LANES*BITS-1:0] m_axis_tdata,
    output wire                  m_axis_tvalid,
    input  wire                  m_axis_tready
);
    localparam BEATS = (CHANNELS + LANES - 1) / LANES;
    localparam OW = (IW + PAD_LEFT + PAD_RIGHT - K) / S + 1;

    initial begin : check_parameters
        if (CHANNELS < 1 || LANES < 1) $fatal(1, "fsq_max_pool: CHANNELS=%0d LANES=%0d, 1 or more was expected", CHANNELS, LANES);
        if (IW + PAD_LEFT + PAD_RIGHT < K) $fatal(1, "fsq_max_pool: K=%0d, at most the padded width %0d was expected", K, IW + PAD_LEFT + PAD_RIGHT);
        if (IH + PAD_TOP + PAD_BOTTOM < K) $fatal(1, "fsq_max_pool: K=%0d, at most the padded height %0d was expected", K, IH + PAD_TOP + PAD_BOTTOM);
    end

    wire [LANES*BITS-1:0] column_tdata;
    wire                  column_tvalid;
    wire                  column_tready;
    wire [LANES*BITS-1:0] row_tdata;
    wire                  row_tvalid;
    wire                  row_tready;

    fsq_window_max #(
        .LANES(LANES), .BITS(BITS), .SIGNED(SIGNED), .LENGTH(IW), .INNER(BEATS), .K(K), .S(S), .PAD_BEFORE(PAD_LEFT), .PAD_AFTER(PAD_RIGHT)
    ) columns (
        .clk(clk), .rst(rst),
        .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
        .m_axis_tdata(column_tdata), .m_axis_tvalid(column_tvalid), .m_axis_tready(column_tready)
    );

    fsq_skid #(.WIDTH(LANES * BITS)) between (
        .clk(clk), .rst(rst),
        .s_axis_tdata(column_tdata), .s_axis_tvalid(column_tvalid), .s_axis_tready(column_tready),
        .m_axis_tdata(row_tdata), .m_axis_tvalid(row_tvalid), .m_axis_tready(row_tready)
    );

    fsq_window_max #(
        .LANES(LANES), .BITS(BITS), .SIGNED(SIGNED), .LENGTH(IH), .INNER(OW * BEATS), .K(K), .S(S), .PAD_BEFORE(PAD_TOP), .PAD_AFTER(PAD_BOTTOM)
    ) rows (
        .clk(clk), .rst(rst),
        .s_axis_tdata(row_tdata), .s_axis_tvalid(row_tvalid), .s_axis_tready(row_tready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready)
    );
endmodule
