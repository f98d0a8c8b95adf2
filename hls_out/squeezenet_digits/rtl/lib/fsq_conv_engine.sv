// Convolution engine: input buffer (line buffer, or two groups of pixels for a 1x1 kernel), matrix-vector unit, pixels put in order.
//
// Parameters
//   IH, IW, OH, OW, K, S, PT, PL   geometry, as in fsq_line_buffer
//   P_OC, P_IC, P_K                output channels, input channels and taps side by side; P_K is 1, K or K*K
//   IC_FOLDS, OC_FOLDS             ceil(IC / P_IC), ceil(OC / P_OC)
//   ROWS                           rows of the line buffer (K + S); not used by the pixel buffer
//   P_PX                           output pixels side by side, 1 to OW: they share every weight read, and each has a copy of the line buffer
//   PIXEL_BUFFER                   1: two groups of P_PX pixels in ping-pong instead of rows; needs K = S = 1 and no padding
//   PAD_VALUE                      what a padded position holds, channel c at bit c*ACT_BITS
//   WEIGHT_BITS ... OUT_SIGNED, PACK ... FIFO_DEPTH, CODING ... CODEBOOK   numbers, packing and memories, as in fsq_mvu
//
// Ports
//   clk, rst    clock; synchronous reset, active high, of the control state only: the frame in work is dropped
//   load_bus    writes into the memories, see fsq_parameter_memory; zero when LOADED = 0
//   s_axis_*    IH * IW * IC_FOLDS beats a frame, channel i of a beat at bit i*ACT_BITS; tready comes from registers
//   m_axis_*    OH * OW * OC_FOLDS beats a frame, pixel by pixel, channel o of a beat at bit o*OUT_BITS; tvalid is registered, with P_PX = 1
//               tdata too
//   high_water  largest number of beats the output FIFO held since reset
//
// Throughput: the slowest of ceil(OH * OW / P_PX) * OC_FOLDS * ceil(K*K / P_K) * IC_FOLDS cycles a frame, one input beat a cycle and one output
// beat a cycle; frames follow each other without a bubble. Latency from a window's last input beat to its first output: that of fsq_mvu and 3
// cycles (1 with the pixel buffer, 2 more with P_PX > 1) plus the folds of the first output beat.
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
    parameter P_PX = 1,
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
    parameter PACK = 0,
    parameter PACK_SHIFT = 18,
    parameter STYLE = 0,
    parameter LOADED = 0,
    parameter LOAD_ID = 0,
    parameter WEIGHT_FILE = "weights.hex",
    parameter BIAS_FILE = "bias.hex",
    parameter SHIFT_FILE = "shift.hex",
    parameter FIFO_DEPTH = 0,
    parameter CODING = 0,
    parameter INDEX_BITS = 1,
    parameter GROUP = 8,
    parameter READ = 1,
    parameter COLUMNS = 1,
    parameter VALUE_WORDS = 1,
    parameter VALUE_FILE = "values",
    parameter [(1<<INDEX_BITS)*WEIGHT_BITS-1:0] CODEBOOK = 0,
    parameter [IC_FOLDS*P_IC*ACT_BITS-1:0] PAD_VALUE = 0
) (
    input  wire                     clk,
    input  wire                     rst,
    input  wire [114:0]             load_bus,
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

    localparam WINDOW = P_K * P_IC * ACT_BITS;
    wire [P_PX*WINDOW-1:0]        window_tdata;
    wire                          window_tvalid;
    wire                          window_tready;
    wire [P_PX*P_OC*OUT_BITS-1:0] group_tdata;
    wire                          group_tvalid;
    wire                          group_tready;

    genvar p;
    generate
        if (PIXEL_BUFFER != 0) begin : gen_pixel_buffer
            fsq_pixel_buffer #(.WIDTH(P_IC*ACT_BITS), .IC_FOLDS(IC_FOLDS), .OC_FOLDS(OC_FOLDS), .P_PX(P_PX), .PIXELS(OH*OW)) buffer (
                .clk(clk), .rst(rst),
                .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
                .m_axis_tdata(window_tdata), .m_axis_tvalid(window_tvalid), .m_axis_tready(window_tready)
            );
        end else begin : gen_line_buffer
            // The copies take an input beat together, and their windows leave together.
            wire [P_PX-1:0] copy_ready;
            wire [P_PX-1:0] copy_valid;
            assign s_axis_tready = &copy_ready;
            assign window_tvalid = &copy_valid;
            for (p = 0; p < P_PX; p = p + 1) begin : gen_copy
                wire [P_IC*ACT_BITS-1:0] tap_tdata;
                wire                     tap_tvalid;
                fsq_line_buffer #(
                    .IH(IH), .IW(IW), .OH(OH), .OW(OW), .K(K), .S(S), .PT(PT), .PL(PL), .P_IC(P_IC), .ACT_BITS(ACT_BITS), .IC_FOLDS(IC_FOLDS),
                    .OC_FOLDS(OC_FOLDS), .P_K(P_K), .ROWS(ROWS), .TAP(0), .PX_STEP(P_PX), .PX_FIRST(p), .PAD_VALUE(PAD_VALUE)
                ) buffer (
                    .clk(clk), .rst(rst),
                    .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid && s_axis_tready), .s_axis_tready(copy_ready[p]),
                    .m_axis_tdata(window_tdata[p*WINDOW +: WINDOW]), .m_axis_tvalid(copy_valid[p]), .m_axis_tready(window_tvalid && window_tready),
                    .m_tap_tdata(tap_tdata), .m_tap_tvalid(tap_tvalid), .m_tap_tready(1'b1)
                );
            end
        end
    endgenerate

    fsq_mvu #(
        .P_OC(P_OC), .P_PX(P_PX), .LANES(P_IC*P_K), .FOLDS(IC_FOLDS*K_FOLDS), .OC_FOLDS(OC_FOLDS),
        .WEIGHT_BITS(WEIGHT_BITS), .ACT_BITS(ACT_BITS), .ACT_SIGNED(ACT_SIGNED), .ACC_BITS(ACC_BITS), .BIAS_BITS(BIAS_BITS),
        .SHIFT_MIN(SHIFT_MIN), .SHIFT_MAX(SHIFT_MAX), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED),
        .PACK(PACK), .PACK_SHIFT(PACK_SHIFT), .STYLE(STYLE), .LOADED(LOADED), .LOAD_ID(LOAD_ID),
        .WEIGHT_FILE(WEIGHT_FILE), .BIAS_FILE(BIAS_FILE), .SHIFT_FILE(SHIFT_FILE), .FIFO_DEPTH(FIFO_DEPTH),
        .CODING(CODING), .INDEX_BITS(INDEX_BITS), .GROUP(GROUP), .READ(READ), .COLUMNS(COLUMNS), .VALUE_WORDS(VALUE_WORDS), .VALUE_FILE(VALUE_FILE), .CODEBOOK(CODEBOOK)
    ) mvu (
        .clk(clk), .rst(rst), .load_bus(load_bus),
        .s_axis_tdata(window_tdata), .s_axis_tvalid(window_tvalid), .s_axis_tready(window_tready),
        .m_axis_tdata(group_tdata), .m_axis_tvalid(group_tvalid), .m_axis_tready(group_tready), .high_water(high_water)
    );

    fsq_pixel_order #(.WIDTH(P_OC*OUT_BITS), .OC_FOLDS(OC_FOLDS), .P_PX(P_PX), .PIXELS(OH*OW)) order (
        .clk(clk), .rst(rst),
        .s_axis_tdata(group_tdata), .s_axis_tvalid(group_tvalid), .s_axis_tready(group_tready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready)
    );
endmodule
