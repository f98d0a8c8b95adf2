// Watches the sender's tlast: it must come with the last beat of every frame and with no other. A wrong one is reported, the data pass unchanged.
//
// The machine behind counts beats, so a frame that is too short or too long shifts everything after it: the error stays up until reset.
//
// Parameters
//   WIDTH   bits of tdata, 1 or more
//   BEATS   beats of a frame, 1 or more
//
// Ports
//   clk, rst     clock; synchronous reset, active high, of the control state only (the next beat begins a frame, the error is cleared)
//   s_axis_*     input with tlast
//   m_axis_*     the same beats; tlast is where the frame ends by count, whatever the sender said
//   error        high from the cycle after the first wrong or missing tlast until reset
//   error_pulse  high for the cycle after each beat with a wrong or missing tlast
//   error_beat   number, in its frame, of the first such beat; valid while error is high
//
// Throughput one beat a cycle. Latency none: handshake and data pass combinationally.
module fsq_frame_check #(
    parameter WIDTH = 24,
    parameter BEATS = 64,
    parameter COUNT_BITS = (BEATS > 1) ? $clog2(BEATS) : 1
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire [WIDTH-1:0]      s_axis_tdata,
    input  wire                  s_axis_tvalid,
    output wire                  s_axis_tready,
    input  wire                  s_axis_tlast,
    output wire [WIDTH-1:0]      m_axis_tdata,
    output wire                  m_axis_tvalid,
    input  wire                  m_axis_tready,
    output wire                  m_axis_tlast,
    output wire                  error,
    output wire                  error_pulse,
    output wire [COUNT_BITS-1:0] error_beat
);
    initial begin : check_parameters
        if (WIDTH < 1 || BEATS < 1) $fatal(1, "fsq_frame_check: WIDTH=%0d BEATS=%0d, 1 or more was expected", WIDTH, BEATS);
    end

    reg [COUNT_BITS-1:0] beat_reg;
    reg [COUNT_BITS-1:0] error_beat_reg;
    reg                  error_reg;
    reg                  pulse_reg;
    wire                 last = beat_reg == (BEATS - 1);
    wire                 moves = s_axis_tvalid && m_axis_tready;
    wire                 wrong = moves && s_axis_tlast != last;

    assign m_axis_tdata = s_axis_tdata;
    assign m_axis_tvalid = s_axis_tvalid;
    assign m_axis_tlast = last;
    assign s_axis_tready = m_axis_tready;
    assign error = error_reg;
    assign error_pulse = pulse_reg;
    assign error_beat = error_beat_reg;

    always_ff @(posedge clk) begin : count
        if (rst) begin
            beat_reg <= {COUNT_BITS{1'b0}};
            error_reg <= 1'b0;
            pulse_reg <= 1'b0;
        end else begin
            if (moves) beat_reg <= last ? {COUNT_BITS{1'b0}} : beat_reg + 1'b1;
            pulse_reg <= wrong;
            if (wrong) error_reg <= 1'b1;
        end
        if (wrong && !error_reg) error_beat_reg <= beat_reg;
    end
endmodule
