// Properties of fsq_width_converter, for yosys: proven in every reachable state, for every input sequence, resets included.
//
// A reference queue holds the channels taken in and not yet delivered (lanes beyond the last channel are never put in).
//   order, loss   the lanes of a beat offered are the oldest channels of the queue, as many as the beat's place in its pixel says, then zeros
//   stability     a beat offered and not taken is offered again, unchanged, in the next cycle
//   no stalling   a beat whose channels are all there is offered within two cycles
//
// One of FSQ_SAME, FSQ_WIDEN, FSQ_NARROW, FSQ_GEARBOX names the form the lane counts select. The wires probe_* are tied to the converter's own
// registers after flattening (prove.py). The assertions about them are the invariants that make the induction close; they are proven along
// with the rest, so none is taken on trust. CHANNELS must be a multiple of the unit gcd(IN_LANES, OUT_LANES), UNIT.
module converter_properties #(
    parameter CHANNELS = 3,
    parameter BITS = 1,
    parameter IN_LANES = 2,
    parameter OUT_LANES = 1,
    parameter UNIT = 1
) (
    input wire                     clk,
    input wire                     rst,
    input wire [IN_LANES*BITS-1:0] s_axis_tdata,
    input wire                     s_axis_tvalid,
    input wire                     m_axis_tready
);
    localparam IN_BEATS = (CHANNELS + IN_LANES - 1) / IN_LANES;
    localparam OUT_BEATS = (CHANNELS + OUT_LANES - 1) / OUT_LANES;
    localparam CAPACITY = 3 * (IN_LANES + OUT_LANES);

    wire                      s_axis_tready;
    wire [OUT_LANES*BITS-1:0] m_axis_tdata;
    wire                      m_axis_tvalid;

    fsq_width_converter #(.CHANNELS(CHANNELS), .BITS(BITS), .IN_LANES(IN_LANES), .OUT_LANES(OUT_LANES)) dut (
        .clk(clk), .rst(rst),
        .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready)
    );

    reg [CAPACITY*BITS-1:0] queue;  // channel 0 is the oldest
    reg [7:0]               count;
    reg [7:0]               in_beat;
    reg [7:0]               out_beat;
    wire                    push = s_axis_tvalid && s_axis_tready;
    wire                    pop = m_axis_tvalid && m_axis_tready;
    wire [7:0]              arriving = (in_beat == IN_BEATS - 1) ? CHANNELS - (IN_BEATS - 1) * IN_LANES : IN_LANES;
    wire [7:0]              leaving = (out_beat == OUT_BEATS - 1) ? CHANNELS - (OUT_BEATS - 1) * OUT_LANES : OUT_LANES;
    wire [7:0]              seen = count + (push ? arriving : 8'd0);  // a converter without logic delivers in the same cycle
    reg [CAPACITY*BITS-1:0] joined;
    reg [OUT_LANES*BITS-1:0] expected;
    integer i;
    integer j;

    always @* begin
        joined = queue;
        for (i = 0; i < CAPACITY; i = i + 1) begin
            for (j = 0; j < IN_LANES; j = j + 1) begin
                if (push && j < arriving && count + j == i) joined[i*BITS +: BITS] = s_axis_tdata[j*BITS +: BITS];
            end
        end
        expected = {(OUT_LANES*BITS){1'b0}};
        for (i = 0; i < OUT_LANES; i = i + 1) if (i < leaving) expected[i*BITS +: BITS] = joined[i*BITS +: BITS];
    end

    always @(posedge clk) begin
        if (rst) begin
            count <= 8'd0;
            in_beat <= 8'd0;
            out_beat <= 8'd0;
        end else begin
            if (push) in_beat <= (in_beat == IN_BEATS - 1) ? 8'd0 : in_beat + 8'd1;
            if (pop) out_beat <= (out_beat == OUT_BEATS - 1) ? 8'd0 : out_beat + 8'd1;
            count <= seen - (pop ? leaving : 8'd0);
        end
        if (pop) begin
            if (leaving == OUT_LANES) queue <= joined >> (OUT_LANES * BITS);
            else queue <= joined >> ((CHANNELS - (OUT_BEATS - 1) * OUT_LANES) * BITS);
        end else queue <= joined;
    end

    reg started = 1'b0;
    reg source_stalled;
    reg stalled;
    reg [IN_LANES*BITS-1:0] sent;
    reg [OUT_LANES*BITS-1:0] offered;
    reg [1:0] waiting;
    always @(posedge clk) begin
        started <= 1'b1;
        stalled <= m_axis_tvalid && !m_axis_tready && !rst;
        offered <= m_axis_tdata;
        source_stalled <= s_axis_tvalid && !s_axis_tready && !rst;
        sent <= s_axis_tdata;
        if (rst || count < leaving || m_axis_tvalid) waiting <= 2'd0;
        else if (waiting != 2'd3) waiting <= waiting + 2'd1;
    end

    // Where the two sides stand: taken = delivered + waiting, up to whole pixels.
    wire [7:0] ahead = count + out_beat * OUT_LANES - in_beat * IN_LANES;
    wire [CAPACITY*BITS-1:0] waiting_row = queue & ~({(CAPACITY*BITS){1'b1}} << (count * BITS));  // nothing behind the newest channel
    always @* begin
        if (started) begin
            assert(in_beat < IN_BEATS && out_beat < OUT_BEATS);
            assert(ahead == 8'd0 || ahead == CHANNELS || ahead == 2 * CHANNELS || ahead == 3 * CHANNELS || ahead == 4 * CHANNELS);
            assert(waiting <= 2'd1);
        end
    end
    (* keep *) wire [7:0] probe_in_beat_reg;
    always @* if (started) assert(probe_in_beat_reg == in_beat);
`ifdef FSQ_SAME
    always @* if (started) assert(count == 8'd0);
`endif
`ifdef FSQ_NARROW
    (* keep *) wire [7:0]               probe_left_reg;
    (* keep *) wire [IN_LANES*BITS-1:0] probe_data_reg;
    always @* begin
        if (started) begin
            assert(probe_left_reg * UNIT == count && count <= IN_LANES);
            if (count != 8'd0) assert(probe_data_reg == waiting_row[IN_LANES*BITS-1:0]);
            assert(waiting == 2'd0);
        end
    end
`endif
`ifdef FSQ_WIDEN
    (* keep *) wire [7:0]                probe_slot_reg;
    (* keep *) wire [OUT_LANES*BITS-1:0] probe_out_data_reg;
    always @* begin
        if (started) begin
            if (m_axis_tvalid) assert(probe_slot_reg == 8'd0 && count == leaving);
            else assert(probe_slot_reg * UNIT == count && count < leaving);
            if (count != 8'd0) assert(probe_out_data_reg == waiting_row[OUT_LANES*BITS-1:0]);
            assert(waiting == 2'd0);
        end
    end
`endif
`ifdef FSQ_GEARBOX
    localparam SMALLER = (IN_LANES < OUT_LANES) ? IN_LANES : OUT_LANES;
    localparam ROW = IN_LANES + OUT_LANES + SMALLER;
    (* keep *) wire [7:0]                probe_have_reg;
    (* keep *) wire [7:0]                probe_out_beat_reg;
    (* keep *) wire [ROW*BITS-1:0]       probe_row_reg;
    wire [7:0]                           offered_now = m_axis_tvalid ? leaving : 8'd0;
    wire [CAPACITY*BITS-1:0]             behind_offer = !m_axis_tvalid ? waiting_row
                                                      : (leaving == OUT_LANES) ? (waiting_row >> (OUT_LANES * BITS))
                                                      : (waiting_row >> ((CHANNELS - (OUT_BEATS - 1) * OUT_LANES) * BITS));
    always @* begin
        if (started) begin
            assert(count >= offered_now && probe_have_reg * UNIT == count - offered_now && probe_have_reg * UNIT <= ROW);
            assert(probe_row_reg == behind_offer[ROW*BITS-1:0]);
            assert(probe_out_beat_reg == (m_axis_tvalid ? ((out_beat == OUT_BEATS - 1) ? 8'd0 : out_beat + 8'd1) : out_beat));
        end
    end
`endif

    always @* begin
        if (!started) assume(rst);
        if (started) begin
            // The sender keeps the protocol too.
            if (source_stalled) assume(s_axis_tvalid && s_axis_tdata == sent);
            assert(seen <= CAPACITY);
            if (m_axis_tvalid && m_axis_tready) assert(seen >= leaving);
            if (m_axis_tvalid && (push || count >= leaving)) assert(m_axis_tdata == expected);
            if (m_axis_tvalid && !push && count < leaving) assert(!m_axis_tready && s_axis_tvalid);
            if (stalled) assert(m_axis_tvalid && m_axis_tdata == offered);
            assert(waiting < 2'd2);
        end
    end
endmodule
