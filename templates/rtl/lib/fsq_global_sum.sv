// Exact sum of every channel over a frame, then one class a beat.
//
// Parameters
//   CHANNELS   channels (classes); a pixel is ceil(CHANNELS/LANES) beats
//   LANES      channels an input beat carries
//   BITS       bits of an input value
//   SIGNED     1: values are two's complement, 0: unsigned
//   PIXELS     pixels of a frame
//   SUM_BITS   bits of a signed sum; at least BITS + ceil(log2(PIXELS)), one more for unsigned values, holds any frame
//   OUT_BITS   bits of an output value, SUM_BITS or more: the sum sign-extended
//
// Ports
//   clk, rst   clock; synchronous reset, active high, of the control state only (the next beat begins a frame)
//   s_axis_*   input
//   m_axis_*   output: class 0 first, tlast on the last class; tdata, tlast and tvalid stay as they are while tvalid is high and tready low
//
// Throughput one input beat a cycle; the sums of a frame are sent, one a cycle, while the next frame is taken in. Interval of a frame
// max(PIXELS * ceil(CHANNELS/LANES), CHANNELS) cycles. Latency two cycles from the last pixel's first beat to
// the first sum, one when LANES = 1.
module fsq_global_sum #(
    parameter CHANNELS = 10,
    parameter LANES = 2,
    parameter BITS = 8,
    parameter SIGNED = 0,
    parameter PIXELS = 16,
    parameter SUM_BITS = 13,
    parameter OUT_BITS = 32
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire [LANES*BITS-1:0] s_axis_tdata,
    input  wire                  s_axis_tvalid,
    output wire                  s_axis_tready,
    output wire [OUT_BITS-1:0]   m_axis_tdata,
    output wire                  m_axis_tvalid,
    input  wire                  m_axis_tready,
    output wire                  m_axis_tlast
);
    localparam BEATS = (CHANNELS + LANES - 1) / LANES;
    localparam WIDTH = LANES * SUM_BITS;
    localparam BEAT_BITS = (BEATS > 1) ? $clog2(BEATS) : 1;
    localparam PIXEL_BITS = (PIXELS > 1) ? $clog2(PIXELS) : 1;
    localparam CLASS_BITS = (CHANNELS > 1) ? $clog2(CHANNELS) : 1;
    localparam VALUE_BITS = BITS + ((SIGNED != 0) ? 0 : 1);  // as a signed number

    initial begin : check_parameters
        if (CHANNELS < 1 || LANES < 1) $fatal(1, "fsq_global_sum: CHANNELS=%0d LANES=%0d, 1 or more was expected", CHANNELS, LANES);
        if (PIXELS < 1) $fatal(1, "fsq_global_sum: PIXELS=%0d, 1 or more was expected", PIXELS);
        if (SUM_BITS < VALUE_BITS) $fatal(1, "fsq_global_sum: SUM_BITS=%0d, at least the value's %0d bits were expected", SUM_BITS, VALUE_BITS);
        if (OUT_BITS < SUM_BITS) $fatal(1, "fsq_global_sum: OUT_BITS=%0d, SUM_BITS=%0d or more was expected", OUT_BITS, SUM_BITS);
    end

    reg  [BEAT_BITS-1:0]  beat_reg;
    reg  [PIXEL_BITS-1:0] pixel_reg;
    wire                  beat_last = beat_reg == (BEATS - 1);
    wire                  pixel_first = pixel_reg == 0;
    wire                  pixel_last = pixel_reg == (PIXELS - 1);
    wire                  result_tready;
    wire                  step = s_axis_tvalid && s_axis_tready;

    assign s_axis_tready = !pixel_last || result_tready;

    always_ff @(posedge clk) begin : scan
        if (rst) begin
            beat_reg <= {BEAT_BITS{1'b0}};
            pixel_reg <= {PIXEL_BITS{1'b0}};
        end else if (step) begin
            beat_reg <= beat_last ? {BEAT_BITS{1'b0}} : beat_reg + 1'b1;
            if (beat_last) pixel_reg <= pixel_last ? {PIXEL_BITS{1'b0}} : pixel_reg + 1'b1;
        end
    end

    // Sums so far. The address runs round and round, so the next word is read while this one is written.
    wire [WIDTH-1:0] partial;
    wire [WIDTH-1:0] partial_next;
    generate
        if (BEATS == 1) begin : gen_register
            reg [WIDTH-1:0] partial_reg;
            assign partial = partial_reg;
            always_ff @(posedge clk) begin : store
                if (step) partial_reg <= partial_next;
            end
        end else begin : gen_memory
            wire [BEAT_BITS-1:0] beat_next = beat_last ? {BEAT_BITS{1'b0}} : beat_reg + 1'b1;
            fsq_memory #(.WIDTH(WIDTH), .DEPTH(BEATS)) sums (
                .clk(clk), .write(step), .write_addr(beat_reg), .write_data(partial_next), .enable(step), .read_addr(beat_next), .word(partial)
            );
        end
    endgenerate

    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : gen_lane
            wire [BITS-1:0] value = s_axis_tdata[lane*BITS +: BITS];
            wire sign = (SIGNED != 0) ? value[BITS-1] : 1'b0;
            wire [SUM_BITS-1:0] extended;
            if (SUM_BITS > BITS) begin : gen_extend
                assign extended = {{(SUM_BITS-BITS){sign}}, value};
            end else begin : gen_exact
                assign extended = value;
            end
            wire [SUM_BITS-1:0] so_far = pixel_first ? {SUM_BITS{1'b0}} : partial[lane*SUM_BITS +: SUM_BITS];
            assign partial_next[lane*SUM_BITS +: SUM_BITS] = so_far + extended;
        end
    endgenerate

    // The second buffer: the finished words wait here while the next frame is summed.
    wire [WIDTH-1:0]    waiting_tdata;
    wire                waiting_tvalid;
    wire                waiting_tready;
    wire [SUM_BITS-1:0] class_tdata;
    wire                class_tvalid;
    reg  [CLASS_BITS-1:0] class_reg;
    wire                  class_last = class_reg == (CHANNELS - 1);

    fsq_fifo #(.WIDTH(WIDTH), .DEPTH(BEATS + 1)) waiting (
        .clk(clk), .rst(rst),
        .s_axis_tdata(partial_next), .s_axis_tvalid(s_axis_tvalid && pixel_last), .s_axis_tready(result_tready),
        .m_axis_tdata(waiting_tdata), .m_axis_tvalid(waiting_tvalid), .m_axis_tready(waiting_tready),
        .occupancy(), .high_water()
    );

    fsq_width_converter #(.CHANNELS(CHANNELS), .BITS(SUM_BITS), .IN_LANES(LANES), .OUT_LANES(1)) classes (
        .clk(clk), .rst(rst),
        .s_axis_tdata(waiting_tdata), .s_axis_tvalid(waiting_tvalid), .s_axis_tready(waiting_tready),
        .m_axis_tdata(class_tdata), .m_axis_tvalid(class_tvalid), .m_axis_tready(m_axis_tready)
    );

    always_ff @(posedge clk) begin : count_classes
        if (rst) class_reg <= {CLASS_BITS{1'b0}};
        else if (m_axis_tvalid && m_axis_tready) class_reg <= class_last ? {CLASS_BITS{1'b0}} : class_reg + 1'b1;
    end

    assign m_axis_tvalid = class_tvalid;
    assign m_axis_tlast = class_last;
    generate
        if (OUT_BITS > SUM_BITS) begin : gen_out_extend
            assign m_axis_tdata = {{(OUT_BITS-SUM_BITS){class_tdata[SUM_BITS-1]}}, class_tdata};
        end else begin : gen_out_exact
            assign m_axis_tdata = class_tdata;
        end
    endgenerate
endmodule
