// Meets a stream with a bypass that has a convolution on it: a as it comes, b through a convolution engine, a width converter and so to the adder.
//
// Parameters
//   OC                             channels of a, of the convolution's result and of the sum
//   IH ... PAD_VALUE, PACK ... LOAD_ID, WEIGHT_FILE ..., CODING ... CODEBOOK   the engine, as in fsq_conv_engine; IN_BITS, IN_SIGNED: format of its input
//   LANES                          channels a beat of a and of the sum
//   A_BITS, A_SIGNED               format of a;  B_BITS, B_SIGNED  format of the convolution's result
//   ALIGN_A, ALIGN_B, SHIFT, OUT_BITS, OUT_SIGNED   the sum, as in fsq_adder
//
// Ports
//   clk, rst       clock; synchronous reset, active high, of the control state only: what is under way is dropped
//   load_bus       writes into the engine's memories, see fsq_parameter_memory; zero when LOADED = 0
//   s_axis_a_*     LANES channels a beat
//   s_axis_b_*     the engine's input, P_IC channels a beat
//   m_axis_*       the sum; tdata and tvalid stay as they are while tvalid is high and tready low
//   high_water     largest number of beats the engine's output FIFO held since reset
//
// Throughput: the engine's, and one beat of the sum a cycle. While a waits the engine works ahead as far as its own buffers reach.
module fsq_conv_adder #(
    parameter OC = 4,
    parameter IH = 8,
    parameter IW = 8,
    parameter OH = 8,
    parameter OW = 8,
    parameter K = 1,
    parameter S = 1,
    parameter PT = 0,
    parameter PL = 0,
    parameter P_OC = 1,
    parameter P_IC = 1,
    parameter P_K = 1,
    parameter P_PX = 1,
    parameter IC_FOLDS = 1,
    parameter OC_FOLDS = 1,
    parameter ROWS = K + S,
    parameter PIXEL_BUFFER = 0,
    parameter IN_BITS = 8,
    parameter IN_SIGNED = 0,
    parameter WEIGHT_BITS = 8,
    parameter ACC_BITS = 24,
    parameter BIAS_BITS = 24,
    parameter SHIFT_MIN = 0,
    parameter SHIFT_MAX = 7,
    parameter PACK = 0,
    parameter PACK_SHIFT = 18,
    parameter STYLE = 0,
    parameter LOADED = 0,
    parameter LOAD_ID = 0,
    parameter WEIGHT_FILE = "weights.hex",
    parameter BIAS_FILE = "bias.hex",
    parameter SHIFT_FILE = "shift.hex",
    parameter CODING = 0,
    parameter INDEX_BITS = 1,
    parameter GROUP = 8,
    parameter READ = 1,
    parameter COLUMNS = 1,
    parameter VALUE_WORDS = 1,
    parameter VALUE_FILE = "values",
    parameter [(1<<INDEX_BITS)*WEIGHT_BITS-1:0] CODEBOOK = 0,
    parameter [IC_FOLDS*P_IC*IN_BITS-1:0] PAD_VALUE = 0,
    parameter LANES = 1,
    parameter A_BITS = 8,
    parameter A_SIGNED = 0,
    parameter B_BITS = 8,
    parameter B_SIGNED = 0,
    parameter ALIGN_A = 0,
    parameter ALIGN_B = 0,
    parameter SHIFT = 0,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 0
) (
    input  wire                      clk,
    input  wire                      rst,
    input  wire [114:0]              load_bus,
    input  wire [LANES*A_BITS-1:0]   s_axis_a_tdata,
    input  wire                      s_axis_a_tvalid,
    output wire                      s_axis_a_tready,
    input  wire [P_IC*IN_BITS-1:0]   s_axis_b_tdata,
    input  wire                      s_axis_b_tvalid,
    output wire                      s_axis_b_tready,
    output wire [LANES*OUT_BITS-1:0] m_axis_tdata,
    output wire                      m_axis_tvalid,
    input  wire                      m_axis_tready,
    output wire [15:0]               high_water
);
    wire [P_OC*B_BITS-1:0]  conv_tdata;
    wire                    conv_tvalid;
    wire                    conv_tready;
    wire [LANES*B_BITS-1:0] bypass_tdata;
    wire                    bypass_tvalid;
    wire                    bypass_tready;

    fsq_conv_engine #(
        .IH(IH), .IW(IW), .OH(OH), .OW(OW), .K(K), .S(S), .PT(PT), .PL(PL), .P_OC(P_OC), .P_IC(P_IC), .P_K(P_K), .P_PX(P_PX), .IC_FOLDS(IC_FOLDS),
        .OC_FOLDS(OC_FOLDS), .ROWS(ROWS), .PIXEL_BUFFER(PIXEL_BUFFER), .WEIGHT_BITS(WEIGHT_BITS), .ACT_BITS(IN_BITS), .ACT_SIGNED(IN_SIGNED),
        .ACC_BITS(ACC_BITS), .BIAS_BITS(BIAS_BITS), .SHIFT_MIN(SHIFT_MIN), .SHIFT_MAX(SHIFT_MAX), .OUT_BITS(B_BITS), .OUT_SIGNED(B_SIGNED),
        .PACK(PACK), .PACK_SHIFT(PACK_SHIFT), .STYLE(STYLE), .LOADED(LOADED), .LOAD_ID(LOAD_ID),
        .WEIGHT_FILE(WEIGHT_FILE), .BIAS_FILE(BIAS_FILE), .SHIFT_FILE(SHIFT_FILE), .PAD_VALUE(PAD_VALUE),
        .CODING(CODING), .INDEX_BITS(INDEX_BITS), .GROUP(GROUP), .READ(READ), .COLUMNS(COLUMNS), .VALUE_WORDS(VALUE_WORDS), .VALUE_FILE(VALUE_FILE), .CODEBOOK(CODEBOOK)
    ) conv (
        .clk(clk), .rst(rst), .load_bus(load_bus),
        .s_axis_tdata(s_axis_b_tdata), .s_axis_tvalid(s_axis_b_tvalid), .s_axis_tready(s_axis_b_tready),
        .m_axis_tdata(conv_tdata), .m_axis_tvalid(conv_tvalid), .m_axis_tready(conv_tready), .high_water(high_water)
    );

    fsq_width_converter #(.CHANNELS(OC), .BITS(B_BITS), .IN_LANES(P_OC), .OUT_LANES(LANES)) converter (
        .clk(clk), .rst(rst),
        .s_axis_tdata(conv_tdata), .s_axis_tvalid(conv_tvalid), .s_axis_tready(conv_tready),
        .m_axis_tdata(bypass_tdata), .m_axis_tvalid(bypass_tvalid), .m_axis_tready(bypass_tready)
    );

    fsq_adder #(
        .LANES(LANES), .A_BITS(A_BITS), .A_SIGNED(A_SIGNED), .B_BITS(B_BITS), .B_SIGNED(B_SIGNED), .ALIGN_A(ALIGN_A), .ALIGN_B(ALIGN_B),
        .SHIFT(SHIFT), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED)
    ) adder (
        .clk(clk), .rst(rst),
        .s_axis_a_tdata(s_axis_a_tdata), .s_axis_a_tvalid(s_axis_a_tvalid), .s_axis_a_tready(s_axis_a_tready),
        .s_axis_b_tdata(bypass_tdata), .s_axis_b_tvalid(bypass_tvalid), .s_axis_b_tready(bypass_tready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready)
    );
endmodule
