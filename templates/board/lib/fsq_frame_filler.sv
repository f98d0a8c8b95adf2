// Hands the pixels of frames to the machine, and completes a frame that broke off with zeros: the machine behind counts beats.
//
// Parameters
//   WIDTH   bits of a pixel
//   PIXELS  pixels of a frame, 1 or more
//
// Ports
//   clk, rst   clock; synchronous reset, active high (the next pixel begins a frame)
//   s_axis_*   input: tdata = {end, pixel}; a beat with `end` is no pixel, it says that no more pixels of the frame begun will come
//   m_axis_*   output: PIXELS beats a frame, tlast on the last
//
// Throughput one pixel a cycle. Latency none: pixels pass combinationally.
module fsq_frame_filler #(
    parameter WIDTH = 8,
    parameter PIXELS = 64
) (
    input  wire             clk,
    input  wire             rst,
    input  wire [WIDTH:0]   s_axis_tdata,
    input  wire             s_axis_tvalid,
    output wire             s_axis_tready,
    output wire [WIDTH-1:0] m_axis_tdata,
    output wire             m_axis_tvalid,
    input  wire             m_axis_tready,
    output wire             m_axis_tlast
);
    localparam COUNT_BITS = (PIXELS > 1) ? $clog2(PIXELS) : 1;
    localparam [COUNT_BITS-1:0] LAST = PIXELS - 1;

    initial begin : check_parameters
        if (WIDTH < 1 || PIXELS < 1) $fatal(1, "fsq_frame_filler: WIDTH=%0d PIXELS=%0d, 1 or more was expected", WIDTH, PIXELS);
    end

    reg [COUNT_BITS-1:0] pixel_reg;
    reg                  filling_reg;

    wire ended = s_axis_tvalid && s_axis_tdata[WIDTH];
    wire step = m_axis_tvalid && m_axis_tready;

    assign s_axis_tready = !filling_reg && (ended || m_axis_tready);
    assign m_axis_tvalid = filling_reg || (s_axis_tvalid && !ended);
    assign m_axis_tdata = filling_reg ? {WIDTH{1'b0}} : s_axis_tdata[WIDTH-1:0];
    assign m_axis_tlast = pixel_reg == LAST;

    always_ff @(posedge clk) begin : control
        if (rst) begin
            pixel_reg <= {COUNT_BITS{1'b0}};
            filling_reg <= 1'b0;
        end else begin
            if (step) pixel_reg <= m_axis_tlast ? {COUNT_BITS{1'b0}} : pixel_reg + 1'b1;
            if (step && m_axis_tlast) filling_reg <= 1'b0;
            else if (ended && pixel_reg != {COUNT_BITS{1'b0}}) filling_reg <= 1'b1;
        end
    end
endmodule
