// Fire's expand pair on one line buffer: the window reader of the KxK engine also sends each window's centre pixel to the 1x1 engine; the two
// results leave concatenated per pixel, 1x1 channels first.
//
// Parameters
//   IH, IW         height and width of input and output (stride 1, padding K/2 all round, zeros)
//   IC             input channels
//   K              kernel of the larger engine, odd
//   ROWS           rows of the line buffer (K + 1)
//   E1_OC, E3_OC   output channels of the 1x1 and of the KxK engine
//   E1_P_OC, E1_P_IC          folding of the 1x1 engine
//   E3_P_OC, E3_P_IC, E3_P_K  folding of the KxK engine; E3_P_IC channels a word of the line buffer
//   P_PX           output pixels side by side in both engines, 1 to IW: each has a copy of the line buffer and of the way to the 1x1 engine
//   OUT_LANES      channels an output beat; divides E1_OC
//   ACT_BITS, ACT_SIGNED, OUT_BITS, OUT_SIGNED   formats of input and output
//   E1_... E3_...  WEIGHT_BITS, ACC_BITS, BIAS_BITS, SHIFT_MIN, SHIFT_MAX, PACK, PACK_SHIFT, STYLE, LOADED, LOAD_ID, WEIGHT_FILE, BIAS_FILE,
//                  SHIFT_FILE, CODING ... CODEBOOK of either engine, as in fsq_mvu
//   CENTRE_DEPTH   words of the FIFO between reader and 1x1 engine, one for each of the P_PX pixels
//   E1_DEPTH, E3_DEPTH   beats of OUT_LANES channels held between either engine and the concat
//
// Ports
//   clk, rst    clock; synchronous reset, active high, of the control state only: the frame in work is dropped
//   load_bus    writes into the memories, see fsq_parameter_memory; zero when no engine is loaded
//   s_axis_*    IH * IW * ceil(IC / E3_P_IC) beats a frame, channel i of a beat at bit i*ACT_BITS; tready comes from registers
//   m_axis_*    per pixel E1_OC / OUT_LANES beats of the 1x1 engine, then ceil(E3_OC / OUT_LANES) beats of the KxK engine
//   centre_high_water, e1_high_water, e3_high_water   largest number of beats the FIFOs held since reset
//
// Throughput: the slowest of the two engines, the input and the output beats, a beat a cycle; frames follow each other without a bubble.
// No deadlock for any depths of 1 or more: the concat waits for a pixel's 1x1 beats only while every earlier KxK beat has left, so the KxK engine
// has the room to send the centre pixel; it waits for KxK beats only when that pixel's centre has long been read. B1*B3/(B1+B3) + 1
// beats of E1_DEPTH and B3 of E3_DEPTH keep both engines running when all rates are equal (B1, B3 beats a pixel); the FIFOs stand behind the
// width converters, so that the concat can take a pixel's beats one a cycle however few channels the engine makes a cycle. With P_PX > 1 the
// two groups of fsq_pixel_order behind either engine hold what a group of pixels brings at once.
module fsq_expand #(
    parameter IH = 8,
    parameter IW = 8,
    parameter IC = 4,
    parameter K = 3,
    parameter ROWS = K + 1,
    parameter E1_OC = 4,
    parameter E3_OC = 4,
    parameter E1_P_OC = 1,
    parameter E1_P_IC = 1,
    parameter E3_P_OC = 1,
    parameter E3_P_IC = 1,
    parameter E3_P_K = 1,
    parameter P_PX = 1,
    parameter OUT_LANES = 1,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 0,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 0,
    parameter E1_WEIGHT_BITS = 8,
    parameter E1_ACC_BITS = 24,
    parameter E1_BIAS_BITS = 24,
    parameter E1_SHIFT_MIN = 0,
    parameter E1_SHIFT_MAX = 7,
    parameter E1_PACK = 0,
    parameter E1_PACK_SHIFT = 18,
    parameter E1_STYLE = 0,
    parameter E1_LOADED = 0,
    parameter E1_LOAD_ID = 0,
    parameter E1_WEIGHT_FILE = "e1_weights.hex",
    parameter E1_BIAS_FILE = "e1_bias.hex",
    parameter E1_SHIFT_FILE = "e1_shift.hex",
    parameter E1_CODING = 0,
    parameter E1_INDEX_BITS = 1,
    parameter E1_GROUP = 8,
    parameter E1_READ = 1,
    parameter E1_COLUMNS = 1,
    parameter E1_VALUE_WORDS = 1,
    parameter E1_VALUE_FILE = "values",
    parameter [(1<<E1_INDEX_BITS)*E1_WEIGHT_BITS-1:0] E1_CODEBOOK = 0,
    parameter E3_WEIGHT_BITS = 8,
    parameter E3_ACC_BITS = 24,
    parameter E3_BIAS_BITS = 24,
    parameter E3_SHIFT_MIN = 0,
    parameter E3_SHIFT_MAX = 7,
    parameter E3_PACK = 0,
    parameter E3_PACK_SHIFT = 18,
    parameter E3_STYLE = 0,
    parameter E3_LOADED = 0,
    parameter E3_LOAD_ID = 0,
    parameter E3_WEIGHT_FILE = "e3_weights.hex",
    parameter E3_BIAS_FILE = "e3_bias.hex",
    parameter E3_SHIFT_FILE = "e3_shift.hex",
    parameter E3_CODING = 0,
    parameter E3_INDEX_BITS = 1,
    parameter E3_GROUP = 8,
    parameter E3_READ = 1,
    parameter E3_COLUMNS = 1,
    parameter E3_VALUE_WORDS = 1,
    parameter E3_VALUE_FILE = "values",
    parameter [(1<<E3_INDEX_BITS)*E3_WEIGHT_BITS-1:0] E3_CODEBOOK = 0,
    parameter CENTRE_DEPTH = 2,
    parameter E1_DEPTH = E1_OC / OUT_LANES + 2,
    parameter E3_DEPTH = 2 * ((E3_OC + OUT_LANES - 1) / OUT_LANES) + 2
) (
    input  wire                          clk,
    input  wire                          rst,
    input  wire [114:0]                  load_bus,
    input  wire [E3_P_IC*ACT_BITS-1:0]   s_axis_tdata,
    input  wire                          s_axis_tvalid,
    output wire                          s_axis_tready,
    output wire [OUT_LANES*OUT_BITS-1:0] m_axis_tdata,
    output wire                          m_axis_tvalid,
    input  wire                          m_axis_tready,
    output wire [15:0]                   centre_high_water,
    output wire [15:0]                   e1_high_water,
    output wire [15:0]                   e3_high_water
);
    localparam E1_IC_FOLDS = (IC + E1_P_IC - 1) / E1_P_IC;
    localparam E1_OC_FOLDS = (E1_OC + E1_P_OC - 1) / E1_P_OC;
    localparam E3_IC_FOLDS = (IC + E3_P_IC - 1) / E3_P_IC;
    localparam E3_OC_FOLDS = (E3_OC + E3_P_OC - 1) / E3_P_OC;
    localparam K_FOLDS = (K * K + E3_P_K - 1) / E3_P_K;
    localparam E3_BEATS = (E3_OC + OUT_LANES - 1) / OUT_LANES;

    initial begin : check_parameters
        if (K % 2 == 0) $fatal(1, "fsq_expand: K=%0d, an odd kernel was expected", K);
        if (E1_OC % OUT_LANES != 0) $fatal(1, "fsq_expand: OUT_LANES=%0d, a divisor of E1_OC=%0d was expected", OUT_LANES, E1_OC);
        if (CENTRE_DEPTH < 1 || E1_DEPTH < 1 || E3_DEPTH < 1)
            $fatal(1, "fsq_expand: CENTRE_DEPTH=%0d E1_DEPTH=%0d E3_DEPTH=%0d, 1 or more was expected", CENTRE_DEPTH, E1_DEPTH, E3_DEPTH);
    end

    // Windows to the KxK engine, centre pixels to the 1x1 engine: a copy of the way for each of the P_PX pixels. The copies take an input beat
    // together, and their windows, and their pixels, leave together.
    localparam WORD = E3_P_IC * ACT_BITS;
    localparam WINDOW = E3_P_K * WORD;
    localparam PIXEL = E1_P_IC * ACT_BITS;
    wire [P_PX-1:0]        copy_ready;
    wire [P_PX-1:0]        copy_window_valid;
    wire [P_PX-1:0]        copy_pixel_valid;
    wire [P_PX*WINDOW-1:0] window_tdata;
    wire                   window_tvalid = &copy_window_valid;
    wire                   window_tready;
    wire [P_PX*PIXEL-1:0]  pixel_tdata;
    wire                   pixel_tvalid = &copy_pixel_valid;
    wire                   pixel_tready;
    wire [16*P_PX-1:0]     copy_high_water;
    assign s_axis_tready = &copy_ready;

    genvar p;
    generate
        for (p = 0; p < P_PX; p = p + 1) begin : gen_copy
            wire [WORD-1:0]  tap_tdata;
            wire             tap_tvalid;
            wire             tap_tready;
            wire [WORD-1:0]  centre_tdata;
            wire             centre_tvalid;
            wire             centre_tready;
            wire [PIXEL-1:0] regrouped_tdata;
            wire             regrouped_tvalid;
            wire             regrouped_tready;

            fsq_line_buffer #(
                .IH(IH), .IW(IW), .OH(IH), .OW(IW), .K(K), .S(1), .PT(K/2), .PL(K/2), .P_IC(E3_P_IC), .ACT_BITS(ACT_BITS), .IC_FOLDS(E3_IC_FOLDS),
                .OC_FOLDS(E3_OC_FOLDS), .P_K(E3_P_K), .ROWS(ROWS), .TAP(1), .PX_STEP(P_PX), .PX_FIRST(p)
            ) line_buffer (
                .clk(clk), .rst(rst),
                .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid && s_axis_tready), .s_axis_tready(copy_ready[p]),
                .m_axis_tdata(window_tdata[p*WINDOW +: WINDOW]), .m_axis_tvalid(copy_window_valid[p]), .m_axis_tready(window_tvalid && window_tready),
                .m_tap_tdata(tap_tdata), .m_tap_tvalid(tap_tvalid), .m_tap_tready(tap_tready)
            );

            wire [$clog2(CENTRE_DEPTH+1)-1:0] centre_occupancy;
            wire [$clog2(CENTRE_DEPTH+1)-1:0] centre_high;
            fsq_fifo #(.WIDTH(WORD), .DEPTH(CENTRE_DEPTH)) centre_fifo (
                .clk(clk), .rst(rst),
                .s_axis_tdata(tap_tdata), .s_axis_tvalid(tap_tvalid), .s_axis_tready(tap_tready),
                .m_axis_tdata(centre_tdata), .m_axis_tvalid(centre_tvalid), .m_axis_tready(centre_tready),
                .occupancy(centre_occupancy), .high_water(centre_high)
            );
            // The largest of the copies' marks: each hands on the larger of its own and its neighbour's.
            wire [15:0] own_high_water = centre_high;
            if (p == 0) begin : gen_first_mark
                assign copy_high_water[0 +: 16] = own_high_water;
            end else begin : gen_larger_mark
                wire [15:0] neighbour = copy_high_water[(p-1)*16 +: 16];
                assign copy_high_water[p*16 +: 16] = (own_high_water > neighbour) ? own_high_water : neighbour;
            end

            fsq_width_converter #(.CHANNELS(IC), .BITS(ACT_BITS), .IN_LANES(E3_P_IC), .OUT_LANES(E1_P_IC)) centre_converter (
                .clk(clk), .rst(rst),
                .s_axis_tdata(centre_tdata), .s_axis_tvalid(centre_tvalid), .s_axis_tready(centre_tready),
                .m_axis_tdata(regrouped_tdata), .m_axis_tvalid(regrouped_tvalid), .m_axis_tready(regrouped_tready)
            );

            fsq_pixel_buffer #(.WIDTH(PIXEL), .IC_FOLDS(E1_IC_FOLDS), .OC_FOLDS(E1_OC_FOLDS)) pixel_buffer (
                .clk(clk), .rst(rst),
                .s_axis_tdata(regrouped_tdata), .s_axis_tvalid(regrouped_tvalid), .s_axis_tready(regrouped_tready),
                .m_axis_tdata(pixel_tdata[p*PIXEL +: PIXEL]), .m_axis_tvalid(copy_pixel_valid[p]), .m_axis_tready(pixel_tvalid && pixel_tready)
            );
        end
    endgenerate
    assign centre_high_water = copy_high_water[(P_PX-1)*16 +: 16];

    // The two engines, each put into pixel order, regrouped to OUT_LANES and with a FIFO before the concat.
    wire [P_PX*E1_P_OC*OUT_BITS-1:0] e1_group_tdata;
    wire                          e1_group_tvalid;
    wire                          e1_group_tready;
    wire [E1_P_OC*OUT_BITS-1:0]   e1_tdata;
    wire                          e1_tvalid;
    wire                          e1_tready;
    wire [P_PX*E3_P_OC*OUT_BITS-1:0] e3_group_tdata;
    wire                          e3_group_tvalid;
    wire                          e3_group_tready;
    wire [E3_P_OC*OUT_BITS-1:0]   e3_tdata;
    wire                          e3_tvalid;
    wire                          e3_tready;
    wire [15:0]                   e1_engine_high_water;
    wire [15:0]                   e3_engine_high_water;
    wire [OUT_LANES*OUT_BITS-1:0] e1_wide_tdata;
    wire                          e1_wide_tvalid;
    wire                          e1_wide_tready;
    wire [OUT_LANES*OUT_BITS-1:0] e3_wide_tdata;
    wire                          e3_wide_tvalid;
    wire                          e3_wide_tready;
    wire [OUT_LANES*OUT_BITS-1:0] first_tdata;
    wire                          first_tvalid;
    wire                          first_tready;
    wire [OUT_LANES*OUT_BITS-1:0] second_tdata;
    wire                          second_tvalid;
    wire                          second_tready;

    fsq_mvu #(
        .P_OC(E1_P_OC), .P_PX(P_PX), .LANES(E1_P_IC), .FOLDS(E1_IC_FOLDS), .OC_FOLDS(E1_OC_FOLDS), .WEIGHT_BITS(E1_WEIGHT_BITS),
        .ACT_BITS(ACT_BITS), .ACT_SIGNED(ACT_SIGNED), .ACC_BITS(E1_ACC_BITS), .BIAS_BITS(E1_BIAS_BITS),
        .SHIFT_MIN(E1_SHIFT_MIN), .SHIFT_MAX(E1_SHIFT_MAX), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED),
        .PACK(E1_PACK), .PACK_SHIFT(E1_PACK_SHIFT), .STYLE(E1_STYLE), .LOADED(E1_LOADED), .LOAD_ID(E1_LOAD_ID),
        .WEIGHT_FILE(E1_WEIGHT_FILE), .BIAS_FILE(E1_BIAS_FILE), .SHIFT_FILE(E1_SHIFT_FILE),
        .CODING(E1_CODING), .INDEX_BITS(E1_INDEX_BITS), .GROUP(E1_GROUP), .READ(E1_READ), .COLUMNS(E1_COLUMNS), .VALUE_WORDS(E1_VALUE_WORDS), .VALUE_FILE(E1_VALUE_FILE), .CODEBOOK(E1_CODEBOOK)
    ) e1_mvu (
        .clk(clk), .rst(rst), .load_bus(load_bus),
        .s_axis_tdata(pixel_tdata), .s_axis_tvalid(pixel_tvalid), .s_axis_tready(pixel_tready),
        .m_axis_tdata(e1_group_tdata), .m_axis_tvalid(e1_group_tvalid), .m_axis_tready(e1_group_tready), .high_water(e1_engine_high_water)
    );

    fsq_pixel_order #(.WIDTH(E1_P_OC*OUT_BITS), .OC_FOLDS(E1_OC_FOLDS), .P_PX(P_PX), .PIXELS(IH*IW)) e1_order (
        .clk(clk), .rst(rst),
        .s_axis_tdata(e1_group_tdata), .s_axis_tvalid(e1_group_tvalid), .s_axis_tready(e1_group_tready),
        .m_axis_tdata(e1_tdata), .m_axis_tvalid(e1_tvalid), .m_axis_tready(e1_tready)
    );

    fsq_mvu #(
        .P_OC(E3_P_OC), .P_PX(P_PX), .LANES(E3_P_IC*E3_P_K), .FOLDS(E3_IC_FOLDS*K_FOLDS), .OC_FOLDS(E3_OC_FOLDS), .WEIGHT_BITS(E3_WEIGHT_BITS),
        .ACT_BITS(ACT_BITS), .ACT_SIGNED(ACT_SIGNED), .ACC_BITS(E3_ACC_BITS), .BIAS_BITS(E3_BIAS_BITS),
        .SHIFT_MIN(E3_SHIFT_MIN), .SHIFT_MAX(E3_SHIFT_MAX), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED),
        .PACK(E3_PACK), .PACK_SHIFT(E3_PACK_SHIFT), .STYLE(E3_STYLE), .LOADED(E3_LOADED), .LOAD_ID(E3_LOAD_ID),
        .WEIGHT_FILE(E3_WEIGHT_FILE), .BIAS_FILE(E3_BIAS_FILE), .SHIFT_FILE(E3_SHIFT_FILE),
        .CODING(E3_CODING), .INDEX_BITS(E3_INDEX_BITS), .GROUP(E3_GROUP), .READ(E3_READ), .COLUMNS(E3_COLUMNS), .VALUE_WORDS(E3_VALUE_WORDS), .VALUE_FILE(E3_VALUE_FILE), .CODEBOOK(E3_CODEBOOK)
    ) e3_mvu (
        .clk(clk), .rst(rst), .load_bus(load_bus),
        .s_axis_tdata(window_tdata), .s_axis_tvalid(window_tvalid), .s_axis_tready(window_tready),
        .m_axis_tdata(e3_group_tdata), .m_axis_tvalid(e3_group_tvalid), .m_axis_tready(e3_group_tready), .high_water(e3_engine_high_water)
    );

    fsq_pixel_order #(.WIDTH(E3_P_OC*OUT_BITS), .OC_FOLDS(E3_OC_FOLDS), .P_PX(P_PX), .PIXELS(IH*IW)) e3_order (
        .clk(clk), .rst(rst),
        .s_axis_tdata(e3_group_tdata), .s_axis_tvalid(e3_group_tvalid), .s_axis_tready(e3_group_tready),
        .m_axis_tdata(e3_tdata), .m_axis_tvalid(e3_tvalid), .m_axis_tready(e3_tready)
    );

    fsq_width_converter #(.CHANNELS(E1_OC), .BITS(OUT_BITS), .IN_LANES(E1_P_OC), .OUT_LANES(OUT_LANES)) e1_converter (
        .clk(clk), .rst(rst),
        .s_axis_tdata(e1_tdata), .s_axis_tvalid(e1_tvalid), .s_axis_tready(e1_tready),
        .m_axis_tdata(e1_wide_tdata), .m_axis_tvalid(e1_wide_tvalid), .m_axis_tready(e1_wide_tready)
    );

    wire [$clog2(E1_DEPTH+1)-1:0] e1_occupancy;
    wire [$clog2(E1_DEPTH+1)-1:0] e1_high;
    fsq_fifo #(.WIDTH(OUT_LANES*OUT_BITS), .DEPTH(E1_DEPTH)) e1_fifo (
        .clk(clk), .rst(rst),
        .s_axis_tdata(e1_wide_tdata), .s_axis_tvalid(e1_wide_tvalid), .s_axis_tready(e1_wide_tready),
        .m_axis_tdata(first_tdata), .m_axis_tvalid(first_tvalid), .m_axis_tready(first_tready),
        .occupancy(e1_occupancy), .high_water(e1_high)
    );
    assign e1_high_water = e1_high;

    fsq_width_converter #(.CHANNELS(E3_OC), .BITS(OUT_BITS), .IN_LANES(E3_P_OC), .OUT_LANES(OUT_LANES)) e3_converter (
        .clk(clk), .rst(rst),
        .s_axis_tdata(e3_tdata), .s_axis_tvalid(e3_tvalid), .s_axis_tready(e3_tready),
        .m_axis_tdata(e3_wide_tdata), .m_axis_tvalid(e3_wide_tvalid), .m_axis_tready(e3_wide_tready)
    );

    wire [$clog2(E3_DEPTH+1)-1:0] e3_occupancy;
    wire [$clog2(E3_DEPTH+1)-1:0] e3_high;
    fsq_fifo #(.WIDTH(OUT_LANES*OUT_BITS), .DEPTH(E3_DEPTH)) e3_fifo (
        .clk(clk), .rst(rst),
        .s_axis_tdata(e3_wide_tdata), .s_axis_tvalid(e3_wide_tvalid), .s_axis_tready(e3_wide_tready),
        .m_axis_tdata(second_tdata), .m_axis_tvalid(second_tvalid), .m_axis_tready(second_tready),
        .occupancy(e3_occupancy), .high_water(e3_high)
    );
    assign e3_high_water = e3_high;

    fsq_concat #(.WIDTH(OUT_LANES*OUT_BITS), .FIRST_BEATS(E1_OC/OUT_LANES), .SECOND_BEATS(E3_BEATS)) concat (
        .clk(clk), .rst(rst),
        .s_first_axis_tdata(first_tdata), .s_first_axis_tvalid(first_tvalid), .s_first_axis_tready(first_tready),
        .s_second_axis_tdata(second_tdata), .s_second_axis_tvalid(second_tvalid), .s_second_axis_tready(second_tready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready)
    );
endmodule
