// Regroups the channels of a pixel: IN_LANES channels a beat in, OUT_LANES channels a beat out.
//
// A pixel is CHANNELS values of BITS bits; it comes in ceil(CHANNELS/IN_LANES) beats and leaves in ceil(CHANNELS/OUT_LANES) beats, lane 0 in
// the low bits. Lanes beyond the last channel are ignored on input and zero on output; beats never mix two pixels.
//
// Parameters
//   CHANNELS   channels of a pixel, 1 or more
//   BITS       bits of a channel
//   IN_LANES   channels an input beat carries, any number from 1
//   OUT_LANES  channels an output beat carries, any number from 1
//
// Ports
//   clk, rst   clock; synchronous reset, active high, of the control state only (a pixel under way is dropped)
//   s_axis_*   input
//   m_axis_*   output; tdata and tvalid stay as they are while tvalid is high and tready low
//
// Throughput one beat a cycle on the side that has more beats a pixel, without bubbles, for every pair of lane counts.
// Latency: none and no logic for equal lanes (or one beat each way); one cycle after the beat that completes an output beat where one count
// divides the other; two cycles otherwise. s_axis_tready depends on m_axis_tready combinationally except in the last case.
module fsq_width_converter #(
    parameter CHANNELS = 16,
    parameter BITS = 8,
    parameter IN_LANES = 4,
    parameter OUT_LANES = 8
) (
    input  wire                      clk,
    input  wire                      rst,
    input  wire [IN_LANES*BITS-1:0]  s_axis_tdata,
    input  wire                      s_axis_tvalid,
    output wire                      s_axis_tready,
    output wire [OUT_LANES*BITS-1:0] m_axis_tdata,
    output wire                      m_axis_tvalid,
    input  wire                      m_axis_tready
);
    function automatic integer gcd(input integer first, input integer second);
        integer a;
        integer b;
        integer t;
        begin
            a = first;
            b = second;
            while (b != 0) begin
                t = a % b;
                a = b;
                b = t;
            end
            gcd = a;
        end
    endfunction

    // Everything below counts in units: the largest group of lanes that neither side splits.
    localparam UNIT = gcd(IN_LANES, OUT_LANES);
    localparam UNIT_BITS = UNIT * BITS;
    localparam UNITS = (CHANNELS + UNIT - 1) / UNIT;
    localparam IN_UNITS = IN_LANES / UNIT;
    localparam OUT_UNITS = OUT_LANES / UNIT;
    localparam IN_BEATS = (UNITS + IN_UNITS - 1) / IN_UNITS;
    localparam OUT_BEATS = (UNITS + OUT_UNITS - 1) / OUT_UNITS;
    localparam IN_LAST = UNITS - (IN_BEATS - 1) * IN_UNITS;     // units in the last input beat of a pixel
    localparam OUT_LAST = UNITS - (OUT_BEATS - 1) * OUT_UNITS;  // units in the last output beat of a pixel
    localparam LAST_LANES = CHANNELS - (IN_BEATS - 1) * IN_LANES;  // channels in the last input beat of a pixel

    initial begin : check_parameters
        if (CHANNELS < 1) $fatal(1, "fsq_width_converter: CHANNELS=%0d, 1 or more was expected", CHANNELS);
        if (BITS < 1) $fatal(1, "fsq_width_converter: BITS=%0d, 1 or more was expected", BITS);
        if (IN_LANES < 1) $fatal(1, "fsq_width_converter: IN_LANES=%0d, 1 or more was expected", IN_LANES);
        if (OUT_LANES < 1) $fatal(1, "fsq_width_converter: OUT_LANES=%0d, 1 or more was expected", OUT_LANES);
    end

    localparam IN_COUNT_BITS = (IN_BEATS > 1) ? $clog2(IN_BEATS) : 1;
    reg  [IN_COUNT_BITS-1:0] in_beat_reg;
    wire                     in_last = in_beat_reg == (IN_BEATS - 1);
    wire                     push = s_axis_tvalid && s_axis_tready;

    always_ff @(posedge clk) begin : count_input
        if (rst) in_beat_reg <= {IN_COUNT_BITS{1'b0}};
        else if (push) in_beat_reg <= in_last ? {IN_COUNT_BITS{1'b0}} : in_beat_reg + 1'b1;
    end

    // Lanes of the last beat that hold no channel are forced to zero here, once for all forms below.
    wire [IN_LANES*BITS-1:0] clean;
    genvar lane;
    generate
        for (lane = 0; lane < IN_LANES; lane = lane + 1) begin : gen_clean
            if (lane < LAST_LANES) begin : gen_channel
                assign clean[lane*BITS +: BITS] = s_axis_tdata[lane*BITS +: BITS];
            end else begin : gen_padding
                assign clean[lane*BITS +: BITS] = in_last ? {BITS{1'b0}} : s_axis_tdata[lane*BITS +: BITS];
            end
        end

        if (IN_LANES == OUT_LANES || (IN_BEATS == 1 && OUT_BEATS == 1)) begin : gen_same
            assign s_axis_tready = m_axis_tready;
            assign m_axis_tvalid = s_axis_tvalid;
            if (OUT_LANES <= IN_LANES) begin : gen_cut
                assign m_axis_tdata = clean[OUT_LANES*BITS-1:0];
            end else begin : gen_extend
                assign m_axis_tdata = {{((OUT_LANES-IN_LANES)*BITS){1'b0}}, clean};
            end
        end else if (IN_UNITS == 1) begin : gen_widen
            localparam SLOT_BITS = $clog2(OUT_UNITS);
            reg [OUT_LANES*BITS-1:0] out_data_reg;
            reg                      out_valid_reg;
            reg [SLOT_BITS-1:0]      slot_reg;
            wire                     complete = in_last || slot_reg == (OUT_UNITS - 1);

            assign s_axis_tready = !out_valid_reg || m_axis_tready;
            assign m_axis_tdata = out_data_reg;
            assign m_axis_tvalid = out_valid_reg;

            always_ff @(posedge clk) begin : control
                if (rst) begin
                    out_valid_reg <= 1'b0;
                    slot_reg <= {SLOT_BITS{1'b0}};
                end else if (s_axis_tready) begin
                    out_valid_reg <= push && complete;
                    if (push) slot_reg <= complete ? {SLOT_BITS{1'b0}} : slot_reg + 1'b1;
                end
            end

            genvar u;
            for (u = 0; u < OUT_UNITS; u = u + 1) begin : gen_slot
                always_ff @(posedge clk) begin : store
                    if (push) begin
                        if (slot_reg == u) out_data_reg[u*UNIT_BITS +: UNIT_BITS] <= clean;
                        else if (slot_reg == 0) out_data_reg[u*UNIT_BITS +: UNIT_BITS] <= {UNIT_BITS{1'b0}};
                    end
                end
            end
        end else if (OUT_UNITS == 1) begin : gen_narrow
            localparam LEFT_BITS = $clog2(IN_UNITS + 1);
            localparam [LEFT_BITS-1:0] ALL = IN_UNITS;
            localparam [LEFT_BITS-1:0] SOME = IN_LAST;
            reg [IN_LANES*BITS-1:0] data_reg;
            reg [LEFT_BITS-1:0]     left_reg;  // units still to send
            wire                    pop = m_axis_tvalid && m_axis_tready;

            assign m_axis_tvalid = left_reg != 0;
            assign m_axis_tdata = data_reg[UNIT_BITS-1:0];
            assign s_axis_tready = left_reg == 0 || (left_reg == 1 && m_axis_tready);

            always_ff @(posedge clk) begin : control
                if (rst) left_reg <= {LEFT_BITS{1'b0}};
                else if (push) left_reg <= in_last ? SOME : ALL;
                else if (pop) left_reg <= left_reg - 1'b1;
            end

            always_ff @(posedge clk) begin : data
                if (push) data_reg <= clean;
                else if (pop) data_reg <= data_reg >> UNIT_BITS;
            end
        end else begin : gen_gearbox
            // Units wait in a row, oldest first; everything behind the newest is zero. An input beat is put behind, an output beat taken off
            // the front, both in one cycle.
            localparam SMALLER = (IN_UNITS < OUT_UNITS) ? IN_UNITS : OUT_UNITS;
            localparam CAPACITY = IN_UNITS + OUT_UNITS + SMALLER;
            localparam HAVE_BITS = $clog2(CAPACITY + 1);
            localparam OUT_COUNT_BITS = (OUT_BEATS > 1) ? $clog2(OUT_BEATS) : 1;
            localparam [HAVE_BITS-1:0] IN_ALL = IN_UNITS;
            localparam [HAVE_BITS-1:0] IN_SOME = IN_LAST;
            localparam [HAVE_BITS-1:0] OUT_ALL = OUT_UNITS;
            localparam [HAVE_BITS-1:0] OUT_SOME = OUT_LAST;
            localparam [HAVE_BITS-1:0] ROOM = CAPACITY - IN_UNITS;
            reg  [CAPACITY*UNIT_BITS-1:0] row_reg;
            reg  [HAVE_BITS-1:0]          have_reg;
            reg  [OUT_COUNT_BITS-1:0]     out_beat_reg;
            reg  [OUT_LANES*BITS-1:0]     out_data_reg;
            reg                           out_valid_reg;
            wire                          out_last = out_beat_reg == (OUT_BEATS - 1);
            wire [HAVE_BITS-1:0]          need = out_last ? OUT_SOME : OUT_ALL;
            wire                          pop = have_reg >= need && (!out_valid_reg || m_axis_tready);
            wire [HAVE_BITS-1:0]          taken = pop ? need : {HAVE_BITS{1'b0}};
            wire [HAVE_BITS-1:0]          kept = have_reg - taken;
            wire [HAVE_BITS-1:0]          added = push ? (in_last ? IN_SOME : IN_ALL) : {HAVE_BITS{1'b0}};
            wire [CAPACITY*UNIT_BITS-1:0] rest = !pop ? row_reg : out_last ? (row_reg >> (OUT_LAST * UNIT_BITS)) : (row_reg >> (OUT_UNITS * UNIT_BITS));
            wire [CAPACITY*UNIT_BITS-1:0] fresh = {{((CAPACITY-IN_UNITS)*UNIT_BITS){1'b0}}, clean};
            reg  [CAPACITY*UNIT_BITS-1:0] placed;

            integer place;
            always_comb begin : put_behind
                placed = {(CAPACITY*UNIT_BITS){1'b0}};
                for (place = 0; place <= CAPACITY - IN_UNITS; place = place + 1) begin
                    if (push && kept == place) placed = placed | (fresh << (place * UNIT_BITS));
                end
            end

            assign s_axis_tready = have_reg <= ROOM;
            assign m_axis_tvalid = out_valid_reg;
            assign m_axis_tdata = out_data_reg;

            always_ff @(posedge clk) begin : control
                if (rst) begin
                    have_reg <= {HAVE_BITS{1'b0}};
                    out_beat_reg <= {OUT_COUNT_BITS{1'b0}};
                    out_valid_reg <= 1'b0;
                    row_reg <= {(CAPACITY*UNIT_BITS){1'b0}};  // the zeros behind the newest unit are part of the state
                end else begin
                    have_reg <= kept + added;
                    row_reg <= rest | placed;
                    if (pop) out_beat_reg <= out_last ? {OUT_COUNT_BITS{1'b0}} : out_beat_reg + 1'b1;
                    if (pop || m_axis_tready) out_valid_reg <= pop;
                end
            end

            genvar v;
            for (v = 0; v < OUT_UNITS; v = v + 1) begin : gen_out
                always_ff @(posedge clk) begin : store
                    if (pop) out_data_reg[v*UNIT_BITS +: UNIT_BITS] <= (v >= OUT_LAST && out_last) ? {UNIT_BITS{1'b0}} : row_reg[v*UNIT_BITS +: UNIT_BITS];
                end
            end
        end
    endgenerate
endmodule
