// Properties of a module that must behave as a queue (fsq_fifo or fsq_skid; chosen by the macro FSQ_SKID), for yosys.
//
// A reference queue is kept beside the module. Proven in every reachable state, for every input sequence, resets included:
//   order, loss   the beat offered is the oldest one of the reference queue; a beat is offered exactly when the queue holds one
//   stability     a beat offered and not taken is offered again, unchanged, in the next cycle
//   room          the module takes a beat in every cycle in which it may, and never one too many
//
// The wires probe_* are tied to the module's own registers after flattening (prove.py). The assertions about them are the invariants that
// make the induction close; they are proven along with the rest, so none is taken on trust.
module queue_properties #(
    parameter WIDTH = 2,
    parameter DEPTH = 3,
    parameter STYLE = 0
) (
    input wire             clk,
    input wire             rst,
    input wire [WIDTH-1:0] s_axis_tdata,
    input wire             s_axis_tvalid,
    input wire             m_axis_tready
);
    wire             s_axis_tready;
    wire [WIDTH-1:0] m_axis_tdata;
    wire             m_axis_tvalid;

`ifdef FSQ_SKID
    fsq_skid #(.WIDTH(WIDTH)) dut (
        .clk(clk), .rst(rst),
        .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready)
    );
`else
    wire [$clog2(DEPTH+1)-1:0] occupancy;
    wire [$clog2(DEPTH+1)-1:0] high_water;
    fsq_fifo #(.WIDTH(WIDTH), .DEPTH(DEPTH), .STYLE(STYLE)) dut (
        .clk(clk), .rst(rst),
        .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready),
        .occupancy(occupancy), .high_water(high_water)
    );
`endif

    // The reference queue: entry 0 is the oldest.
    reg [(DEPTH+1)*WIDTH-1:0] queue;
    reg [7:0]                 count;
    wire                      push = s_axis_tvalid && s_axis_tready;
    wire                      pop = m_axis_tvalid && m_axis_tready;
    wire [7:0]                left = count - {7'd0, pop};
    reg  [(DEPTH+1)*WIDTH-1:0] queue_next;
    integer i;
    always @* begin
        queue_next = pop ? (queue >> WIDTH) : queue;
        for (i = 0; i <= DEPTH; i = i + 1) if (push && left == i) queue_next[i*WIDTH +: WIDTH] = s_axis_tdata;
    end
    always @(posedge clk) begin
        queue <= queue_next;
        count <= rst ? 8'd0 : left + {7'd0, push};
    end

    reg started = 1'b0;
    reg after_reset;
    reg stalled;
    reg [WIDTH-1:0] offered;
    always @(posedge clk) begin
        started <= 1'b1;
        after_reset <= rst;
        stalled <= m_axis_tvalid && !m_axis_tready && !rst;
        offered <= m_axis_tdata;
    end

    localparam WORDS = (DEPTH > 1) ? DEPTH - 1 : 1;
    wire [7:0] stored = count - {7'd0, m_axis_tvalid};  // beats behind the output register
`ifdef FSQ_SKID
    (* keep *) wire             probe_spare_valid_reg;
    (* keep *) wire [WIDTH-1:0] probe_spare_data_reg;
    always @* begin
        if (started) begin
            assert(probe_spare_valid_reg == (count == 8'd2));
            if (count == 8'd2) assert(probe_spare_data_reg == queue[WIDTH +: WIDTH]);
        end
    end
`endif
`ifdef FSQ_SHIFT
`define FSQ_MEMORY
`endif
`ifdef FSQ_RING
`define FSQ_MEMORY
    (* keep *) wire [$clog2(DEPTH+1)-1:0] probe_write_reg;
    (* keep *) wire [$clog2(DEPTH+1)-1:0] probe_read_reg;
    (* keep *) wire [WIDTH-1:0]           probe_word;
    wire [7:0]                            write_at = probe_write_reg;
    wire [7:0]                            read_at = probe_read_reg;
`endif
`ifdef FSQ_MEMORY
    (* keep *) wire [$clog2(DEPTH+1)-1:0] probe_stored_reg;
    (* keep *) wire [WORDS*WIDTH-1:0]     probe_words;
    always @* begin
        if (started) begin
            assert(probe_stored_reg == stored);
`ifdef FSQ_RING
            assert(read_at < WORDS && write_at < WORDS);
            assert(write_at == (read_at + stored) % WORDS);
            if (stored != 8'd0) assert(probe_word == queue[WIDTH +: WIDTH]);
`endif
        end
    end
    genvar n;
    generate
        for (n = 0; n < WORDS; n = n + 1) begin : gen_word
`ifdef FSQ_SHIFT
            wire [7:0] place = stored - 8'd1 - n;
`else
            wire [7:0] place = (read_at + n) % WORDS;
`endif
            always @* if (started && n < stored) assert(probe_words[place*WIDTH +: WIDTH] == queue[(n+1)*WIDTH +: WIDTH]);
        end
    endgenerate
`endif

    always @* begin
        if (!started) assume(rst);
        if (started) begin
            assert(count <= DEPTH);
            assert(m_axis_tvalid == (count != 8'd0));
            if (m_axis_tvalid) assert(m_axis_tdata == queue[WIDTH-1:0]);
            if (stalled) assert(m_axis_tvalid && m_axis_tdata == offered);
            if (s_axis_tready) assert(left < DEPTH);
`ifdef FSQ_SKID
            if (!after_reset) assert(s_axis_tready == (count < 8'd2));
`else
            assert(occupancy == count);
            assert(high_water >= occupancy);
            if (!after_reset && DEPTH > 1) assert(s_axis_tready == (count < DEPTH));
            if (DEPTH == 1) assert(s_axis_tready == (count == 8'd0 || m_axis_tready));
`endif
        end
    end
endmodule
