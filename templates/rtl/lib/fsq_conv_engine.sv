// Convolution engine: input buffer (line buffer, or two pixels for a 1x1 kernel) and matrix-vector unit.
//
// Parameters
//   IH, IW, OH, OW, K, S, PT, PL   geometry, as in fsq_line_buffer
//   P_OC, P_IC, P_K                output channels, input channels and taps side by side; P_K is 1, K or K*K
//   IC_FOLDS, OC_FOLDS             ceil(IC / P_IC), ceil(OC / P_OC)
//   ROWS                           rows of the line buffer (K + S); not used by the pixel buffer
//   PIXEL_BUFFER                   1: two pixels in ping-pong instead of rows; needs K = S = 1 and no padding
//   PAD_VALUE                      what a padded position holds, channel c at bit c*ACT_BITS
//   WEIGHT_BITS ... SHIFT_FILE, FIFO_DEPTH   numbers and memories, as in fsq_mvu
//
// Ports
//   clk, rst    clock; synchronous reset, active high, of the control state only: the frame in work is dropped
//   s_axis_*    IH * IW * IC_FOLDS beats a frame, channel i of a beat at bit i*ACT_BITS; tready comes from registers
//   m_axis_*    OH * OW * OC_FOLDS beats a frame, channel o of a beat at bit o*OUT_BITS; registered
//   high_water  largest number of beats the output FIFO held since reset
//
// Throughput OH * OW * OC_FOLDS * ceil(K*K / P_K) * IC_FOLDS cycles a frame, or one input beat a cycle if that is slower; frames follow each
// other without a bubble. Latency from a window's last input beat to its first output: 11 + ceil(log3(P_IC * P_K)) cycles (two less with
// the pixel buffer) plus the folds of the first output beat.
module fsq_conv_engine #(
    parameter IH = 8,
    parameter IW = 8,
    parameter OH = 8,
    parameter OW = 8,
    parameter K = 3,
    parameter S = 1,
    parameter PT = 1,
    parameter PL = 1,
    parameter P_OC = 1,
    parameter P_IC = 1,
    parameter P_K = 1,
    parameter IC_FOLDS = 1,
    parameter OC_FOLDS = 1,
    parameter ROWS = K + S,
    parameter PIXEL_BUFFER = 0,
    parameter WEIGHT_BITS = 8,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 0,
    parameter ACC_BITS = 24,
    parameter BIAS_BITS = 24,
    parameter SHIFT_MIN = 0,
    parameter SHIFT_MAX = 7,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 0,
    parameter WEIGHT_FILE = "weights.hex",
    parameter BIAS_FILE = "bias.hex",
    parameter SHIFT_FILE = "shift.hex",
    parameter FIFO_DEPTH = 0,
    parameter [IC_FOLDS*P_IC*ACT_BITS-1:0] PAD_VALUE = 0
) (
    input  wire                     clk,
    input  wire                     rst,
    input  wire [P_IC*ACT_BITS-1:0] s_axis_tdata,
    input  wire                     s_axis_tvalid,
    output wire                     s_axis_tready,
    output wire [P_OC*OUT_BITS-1:0] m_axis_tdata,
    output wire                     m_axis_tvalid,
    input  wire                     m_axis_tready,
    output wire [15:0]              high_water
);
    localparam K_FOLDS = (K * K + P_K - 1) / P_K;

    initial begin : check_parameters
        if (PIXEL_BUFFER != 0 && (K != 1 || S != 1 || PT != 0 || PL != 0 || OH != IH || OW != IW))
            $fatal(1, "fsq_conv_engine: a pixel buffer needs K=S=1 without padding, got K=%0d S=%0d PT=%0d PL=%0d", K, S, PT, PL);
    end

    wire [P_K*P_IC*ACT_BITS-1:0] window_tdata;
    wire                         window_tvalid;
    wire                         window_tready;

    generate
        if (PIXEL_BUFFER != 0) begin : gen_pixel_buffer
            fsq_pixel_buffer #(.WIDTH(P_IC*ACT_BITS), .IC_FOLDS(IC_FOLDS), .OC_FOLDS(OC_FOLDS)) buffer (
                .clk(clk), .rst(rst),
                .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
                .m_axis_tdata(window_tdata), .m_axis_tvalid(window_tvalid), .m_axis_tready(window_tready)
            );
        end else begin : gen_line_buffer
            wire [P_IC*ACT_BITS-1:0] tap_tdata;
            wire                     tap_tvalid;
            fsq_line_buffer #(
                .IH(IH), .IW(IW), .OH(OH), .OW(OW), .K(K), .S(S), .PT(PT), .PL(PL), .P_IC(P_IC), .ACT_BITS(ACT_BITS),
                .IC_FOLDS(IC_FOLDS), .OC_FOLDS(OC_FOLDS), .P_K(P_K), .ROWS(ROWS), .TAP(0), .PAD_VALUE(PAD_VALUE)
            ) buffer (
                .clk(clk), .rst(rst),
                .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
                .m_axis_tdata(window_tdata), .m_axis_tvalid(window_tvalid), .m_axis_tready(window_tready),
                .m_tap_tdata(tap_tdata), .m_tap_tvalid(tap_tvalid), .m_tap_tready(1'b1)
            );
        end
    endgenerate

    fsq_mvu #(
        .P_OC(P_OC), .LANES(P_IC*P_K), .FOLDS(IC_FOLDS*K_FOLDS), .OC_FOLDS(OC_FOLDS),
        .WEIGHT_BITS(WEIGHT_BITS), .ACT_BITS(ACT_BITS), .ACT_SIGNED(ACT_SIGNED), .ACC_BITS(ACC_BITS), .BIAS_BITS(BIAS_BITS),
        .SHIFT_MIN(SHIFT_MIN), .SHIFT_MAX(SHIFT_MAX), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED),
        .WEIGHT_FILE(WEIGHT_FILE), .BIAS_FILE(BIAS_FILE), .SHIFT_FILE(SHIFT_FILE), .FIFO_DEPTH(FIFO_DEPTH)
    ) mvu (
        .clk(clk), .rst(rst), .load_bus(115'd0),
        .s_axis_tdata(window_tdata), .s_axis_tvalid(window_tvalid), .s_axis_tready(window_tready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready), .high_water(high_water)
    );
endmodule
