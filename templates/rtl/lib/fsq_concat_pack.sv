// Channel concatenation of two streams with any numbers of channels, packed: per pixel the first operand's channels, then the second one's, without a gap.
//
// The first operand's last beat of a pixel may be partly filled. Then that beat and the second operand's first one leave together, and every further beat of
// the second operand is split between two beats out. Lanes beyond an operand's last channel are ignored on input, those beyond the result's are zero.
//
// Parameters
//   LANES        channels a beat carries, on all three streams; at most A_CHANNELS + B_CHANNELS
//   BITS         bits of a channel
//   A_CHANNELS, B_CHANNELS  channels of a pixel of either operand, in ceil(channels/LANES) beats
//   A_FIRST      1: a leaves first; 0: b, and nothing of a pixel leaves before its first beat of a is there
//
// Ports
//   clk, rst                clock; synchronous reset, active high, of the control state only: the next beat begins a pixel
//   s_axis_a_*, s_axis_b_*  operands
//   m_axis_*                ceil((A_CHANNELS+B_CHANNELS)/LANES) beats a pixel; tdata and tvalid stay as they are while tvalid is high and tready low
//
// Throughput one beat a cycle out. Latency none: tvalid, tdata and tready pass through. A beat that needs both operands takes both in the same cycle, so
// either tready depends on the other's tvalid combinationally.
module fsq_concat_pack #(
    parameter LANES = 4,
    parameter BITS = 8,
    parameter A_CHANNELS = 6,
    parameter B_CHANNELS = 4,
    parameter A_FIRST = 1
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire [LANES*BITS-1:0] s_axis_a_tdata,
    input  wire                  s_axis_a_tvalid,
    output wire                  s_axis_a_tready,
    input  wire [LANES*BITS-1:0] s_axis_b_tdata,
    input  wire                  s_axis_b_tvalid,
    output wire                  s_axis_b_tready,
    output wire [LANES*BITS-1:0] m_axis_tdata,
    output wire                  m_axis_tvalid,
    input  wire                  m_axis_tready
);
    localparam FIRST = (A_FIRST != 0) ? A_CHANNELS : B_CHANNELS;
    localparam SECOND = (A_FIRST != 0) ? B_CHANNELS : A_CHANNELS;
    localparam WHOLE = FIRST / LANES;                                    // beats that the first operand fills
    localparam REST = FIRST - WHOLE * LANES;                             // its channels in the beat that both share
    localparam SECOND_BEATS = (SECOND + LANES - 1) / LANES;
    localparam SECOND_LAST = SECOND - (SECOND_BEATS - 1) * LANES;        // channels of the second operand's last beat
    localparam BEATS = (FIRST + SECOND + LANES - 1) / LANES;
    localparam COUNT_BITS = (BEATS > 1) ? $clog2(BEATS) : 1;
    localparam WIDTH = LANES * BITS;

    initial begin : check_parameters
        if (LANES < 1 || LANES > A_CHANNELS + B_CHANNELS)
            $fatal(1, "fsq_concat_pack: LANES=%0d, 1 to A_CHANNELS + B_CHANNELS = %0d was expected", LANES, A_CHANNELS + B_CHANNELS);
        if (BITS < 1) $fatal(1, "fsq_concat_pack: BITS=%0d, 1 or more was expected", BITS);
        if (A_CHANNELS < 1 || B_CHANNELS < 1)
            $fatal(1, "fsq_concat_pack: A_CHANNELS=%0d B_CHANNELS=%0d, 1 or more was expected", A_CHANNELS, B_CHANNELS);
    end

    wire [WIDTH-1:0] first_tdata = (A_FIRST != 0) ? s_axis_a_tdata : s_axis_b_tdata;
    wire [WIDTH-1:0] second_tdata = (A_FIRST != 0) ? s_axis_b_tdata : s_axis_a_tdata;
    wire             first_tvalid = (A_FIRST != 0) ? s_axis_a_tvalid : s_axis_b_tvalid;
    wire             second_tvalid = (A_FIRST != 0) ? s_axis_b_tvalid : s_axis_a_tvalid;

    reg [COUNT_BITS-1:0] count_reg;

    // What the beat is made of. Both operands where they share it, neither where only lanes that were held back are left.
    wire takes_first = count_reg < WHOLE || (REST > 0 && count_reg == WHOLE);
    wire takes_second = count_reg >= WHOLE && count_reg < WHOLE + SECOND_BEATS;
    wire last_second = count_reg == WHOLE + SECOND_BEATS - 1;
    wire waits_for_a = (A_FIRST == 0) && count_reg == 0;
    wire moved = m_axis_tvalid && m_axis_tready;
    wire first_tready = moved && takes_first;
    wire second_tready = moved && takes_second;

    assign m_axis_tvalid = (first_tvalid || !takes_first) && (second_tvalid || !takes_second) && (s_axis_a_tvalid || !waits_for_a);
    assign s_axis_a_tready = (A_FIRST != 0) ? first_tready : second_tready;
    assign s_axis_b_tready = (A_FIRST != 0) ? second_tready : first_tready;

    always_ff @(posedge clk) begin : turns
        if (rst) count_reg <= {COUNT_BITS{1'b0}};
        else if (moved) count_reg <= (count_reg == BEATS - 1) ? {COUNT_BITS{1'b0}} : count_reg + 1'b1;
    end

    // The second operand's beat without the lanes beyond its last channel.
    wire [WIDTH-1:0] clean;
    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : gen_clean
            if (lane < SECOND_LAST) begin : gen_channel
                assign clean[lane*BITS +: BITS] = second_tdata[lane*BITS +: BITS];
            end else begin : gen_padding
                assign clean[lane*BITS +: BITS] = last_second ? {BITS{1'b0}} : second_tdata[lane*BITS +: BITS];
            end
        end

        if (REST == 0) begin : gen_aligned
            assign m_axis_tdata = takes_first ? first_tdata : clean;
        end else begin : gen_shifted
            reg  [REST*BITS-1:0]         held_reg;
            wire [REST*BITS-1:0]         front = takes_first ? first_tdata[REST*BITS-1:0] : held_reg;
            wire [(LANES-REST)*BITS-1:0] back = takes_second ? clean[(LANES-REST)*BITS-1:0] : {((LANES-REST)*BITS){1'b0}};
            assign m_axis_tdata = (count_reg < WHOLE) ? first_tdata : {back, front};

            always_ff @(posedge clk) begin : hold
                if (moved) held_reg <= clean[WIDTH-1 -: REST*BITS];
            end
        end
    endgenerate
endmodule
