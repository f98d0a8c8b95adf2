// Takes framed bytes apart: the pixels go on, every frame gets a verdict. Nothing that comes over the line can put it out of step for good.
//
// A frame: 53 51 ("SQ"), a tag (sent back with the answer), the number of pixel bytes (3 bytes, low byte first), the pixel bytes, and the
// CRC-16 of everything from the tag on (fsq_crc16, high byte first). The pixels pass on as they come, before the CRC is known.
//
// Parameters
//   CHANNELS   bytes a pixel; the first one goes to the low bits
//   PIXELS     pixels of a frame
//   TIMEOUT    cycles of silence after which a frame that has begun is given up
//   FIFO_DEPTH pixels held while the machine is busy
//
// Ports
//   clk, rst       clock; synchronous reset, active high: back to waiting for a frame
//   s_axis_*       bytes of fsq_uart_rx: no tready; tuser: the byte is wrong
//   m_axis_*       tdata = {end, pixel} for fsq_frame_filler
//   verdict_*      one beat a frame or disturbance: tdata = {machine, tag, status}; `machine`: pixels of it went to the machine, a result will come
//                  status 0: whole; 1: bytes that begin no frame were skipped (one verdict, however many); 2: wrong length, refused;
//                  3: broke off; 4: wrong CRC or stop bit; 5: the machine did not keep up
//   receiving      high while a frame is on its way
//
// Throughput a byte every second cycle. Latency of a pixel 2 cycles.
module fsq_frame_receiver #(
    parameter CHANNELS = 1,
    parameter PIXELS = 784,
    parameter TIMEOUT = 8000000,
    parameter FIFO_DEPTH = 512
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire [7:0]            s_axis_tdata,
    input  wire                  s_axis_tvalid,
    input  wire                  s_axis_tuser,
    output wire [8*CHANNELS:0]   m_axis_tdata,
    output wire                  m_axis_tvalid,
    input  wire                  m_axis_tready,
    output wire [16:0]           verdict_tdata,
    output wire                  verdict_tvalid,
    input  wire                  verdict_tready,
    output wire                  receiving
);
    localparam WIDTH = 8 * CHANNELS;
    localparam [23:0] BYTES = CHANNELS * PIXELS;
    localparam QUIET_BITS = $clog2(TIMEOUT + 1);
    localparam [QUIET_BITS-1:0] QUIET_MAX = TIMEOUT;
    localparam CHANNEL_BITS = (CHANNELS > 1) ? $clog2(CHANNELS) : 1;
    localparam [CHANNEL_BITS-1:0] CHANNEL_LAST = CHANNELS - 1;
    localparam VERDICTS = 16;
    localparam VERDICT_BITS = $clog2(VERDICTS + 1);

    localparam [7:0] MAGIC_0 = 8'h53;
    localparam [7:0] MAGIC_1 = 8'h51;
    localparam [7:0] OK = 8'd0;
    localparam [7:0] SKIPPED = 8'd1;
    localparam [7:0] LENGTH = 8'd2;
    localparam [7:0] BROKEN_OFF = 8'd3;
    localparam [7:0] CRC = 8'd4;
    localparam [7:0] OVERRUN = 8'd5;

    localparam [2:0] HUNT = 3'd0;     // for the first byte of a frame
    localparam [2:0] SECOND = 3'd1;
    localparam [2:0] HEADER = 3'd2;
    localparam [2:0] PAYLOAD = 3'd3;
    localparam [2:0] CHECK = 3'd4;
    localparam [2:0] DECIDE = 3'd5;   // one cycle: the CRC register has taken its last byte

    initial begin : check_parameters
        if (CHANNELS < 1 || PIXELS < 1) $fatal(1, "fsq_frame_receiver: CHANNELS=%0d PIXELS=%0d, 1 or more was expected", CHANNELS, PIXELS);
        if (CHANNELS * PIXELS > 16777215) $fatal(1, "fsq_frame_receiver: %0d bytes a frame, at most 16777215 was expected", CHANNELS * PIXELS);
        if (TIMEOUT < 1) $fatal(1, "fsq_frame_receiver: TIMEOUT=%0d, 1 or more was expected", TIMEOUT);
    end

    reg [2:0]              state_reg;
    reg [23:0]             count_reg;     // header, CRC: bytes seen; payload: bytes left after this one
    reg [7:0]              tag_reg;
    reg [15:0]             length_reg;    // the low bytes of the length
    reg [QUIET_BITS-1:0]   quiet_reg;
    reg                    skipping_reg;  // the bytes being skipped were already reported
    reg                    started_reg;   // a pixel of this frame went on
    reg                    muted_reg;     // no more pixels of this frame go on
    reg                    wrong_reg;     // a stop bit was wrong
    reg                    end_reg;       // an end beat waits for its place
    reg [CHANNEL_BITS-1:0] channel_reg;
    reg [WIDTH-1:0]        pixel_reg;
    reg                    pixel_valid_reg;
    reg                    verdict_valid_reg;
    reg [16:0]             verdict_reg;

    wire byte_in = s_axis_tvalid;
    wire [15:0] crc;
    wire pixel_ready;
    wire silent = quiet_reg == QUIET_MAX && state_reg != HUNT;
    wire [VERDICT_BITS-1:0] verdicts;
    // Verdicts of frames always find a place; those of disturbances are dropped when answers pile up.
    wire may_report = verdicts < VERDICTS / 2;
    wire may_start = verdicts < VERDICTS - 4 && !end_reg;
    wire overrun = pixel_valid_reg && !pixel_ready;

    fsq_crc16 check (.clk(clk), .clear(state_reg == SECOND), .enable(byte_in), .data(s_axis_tdata), .crc(crc));

    always_ff @(posedge clk) begin : receive
        if (rst) begin
            state_reg <= HUNT;
            quiet_reg <= {QUIET_BITS{1'b0}};
            skipping_reg <= 1'b0;
            started_reg <= 1'b0;
            muted_reg <= 1'b0;
            end_reg <= 1'b0;
            pixel_valid_reg <= 1'b0;
            verdict_valid_reg <= 1'b0;
        end else begin
            pixel_valid_reg <= 1'b0;
            verdict_valid_reg <= 1'b0;
            if (end_reg && pixel_ready && !pixel_valid_reg) end_reg <= 1'b0;
            if (pixel_valid_reg && pixel_ready) started_reg <= 1'b1;
            if (overrun) begin
                muted_reg <= 1'b1;
                end_reg <= started_reg;
            end
            if (byte_in || state_reg == HUNT) quiet_reg <= {QUIET_BITS{1'b0}};
            else if (!silent) quiet_reg <= quiet_reg + 1'b1;

            if (state_reg == DECIDE) begin
                state_reg <= HUNT;
                verdict_valid_reg <= started_reg || may_report;
                verdict_reg <= {started_reg, tag_reg, (muted_reg ? OVERRUN : (wrong_reg || crc != 16'd0) ? CRC : OK)};
            end else if (silent && !byte_in) begin
                state_reg <= HUNT;
                verdict_valid_reg <= started_reg || may_report;
                verdict_reg <= {started_reg, (state_reg == PAYLOAD || state_reg == CHECK) ? tag_reg : 8'd0, BROKEN_OFF};
                // In CHECK every pixel went on already, and a muted frame has had its end.
                if (state_reg == PAYLOAD && !muted_reg) end_reg <= started_reg;
            end else if (byte_in) begin
                case (state_reg)
                    HUNT, SECOND: begin
                        if (state_reg == SECOND && s_axis_tdata == MAGIC_1 && !s_axis_tuser) begin
                            state_reg <= HEADER;
                            skipping_reg <= 1'b0;
                        end else begin
                            state_reg <= (s_axis_tdata == MAGIC_0 && !s_axis_tuser) ? SECOND : HUNT;
                            if (state_reg == SECOND || s_axis_tdata != MAGIC_0 || s_axis_tuser) begin
                                skipping_reg <= 1'b1;
                                verdict_valid_reg <= !skipping_reg && may_report;
                                verdict_reg <= {1'b0, 8'd0, SKIPPED};
                            end
                        end
                        count_reg <= 24'd0;
                        started_reg <= 1'b0;
                        wrong_reg <= 1'b0;
                        channel_reg <= {CHANNEL_BITS{1'b0}};
                    end
                    HEADER: begin
                        count_reg <= count_reg + 1'b1;
                        wrong_reg <= wrong_reg || s_axis_tuser;
                        if (count_reg == 24'd0) tag_reg <= s_axis_tdata;
                        else length_reg <= {s_axis_tdata, length_reg[15:8]};
                        if (count_reg == 24'd3) begin
                            count_reg <= BYTES - 1'b1;
                            muted_reg <= !may_start;
                            state_reg <= PAYLOAD;
                            if ({s_axis_tdata, length_reg} != BYTES) begin
                                state_reg <= HUNT;
                                skipping_reg <= 1'b1;  // the pixels that follow are part of this refusal
                                verdict_valid_reg <= may_report;
                                verdict_reg <= {1'b0, tag_reg, LENGTH};
                            end
                        end
                    end
                    PAYLOAD: begin
                        wrong_reg <= wrong_reg || s_axis_tuser;
                        channel_reg <= (channel_reg == CHANNEL_LAST) ? {CHANNEL_BITS{1'b0}} : channel_reg + 1'b1;
                        pixel_reg[8*channel_reg +: 8] <= s_axis_tdata;
                        pixel_valid_reg <= channel_reg == CHANNEL_LAST && !muted_reg && !overrun;
                        count_reg <= (count_reg == 24'd0) ? 24'd0 : count_reg - 1'b1;
                        if (count_reg == 24'd0) state_reg <= CHECK;
                    end
                    default: begin  // CHECK
                        wrong_reg <= wrong_reg || s_axis_tuser;
                        count_reg <= 24'd1;
                        if (count_reg == 24'd1) state_reg <= DECIDE;
                    end
                endcase
            end
        end
    end

    assign receiving = state_reg != HUNT;

    fsq_fifo #(.WIDTH(WIDTH + 1), .DEPTH(FIFO_DEPTH), .STYLE(2)) pixels (
        .clk(clk), .rst(rst),
        .s_axis_tdata({!pixel_valid_reg, pixel_reg}), .s_axis_tvalid(pixel_valid_reg || end_reg), .s_axis_tready(pixel_ready),
        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready),
        .occupancy(), .high_water()
    );

    fsq_fifo #(.WIDTH(17), .DEPTH(VERDICTS)) answers (
        .clk(clk), .rst(rst),
        .s_axis_tdata(verdict_reg), .s_axis_tvalid(verdict_valid_reg), .s_axis_tready(),
        .m_axis_tdata(verdict_tdata), .m_axis_tvalid(verdict_tvalid), .m_axis_tready(verdict_tready),
        .occupancy(verdicts), .high_water()
    );
endmodule
