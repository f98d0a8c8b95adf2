// Sends the frames of a file (one beat a line, hexadecimal) as an AXI4-Stream with tlast, with pauses. Simulation only.
//
// Parameters
//   WIDTH        bits of a beat
//   BEATS        beats of a frame
//   FILE         the beats; frames follow each other
//
// Ports
//   clk, rst     clock; reset starts again at the first line
//   frames       frames to send
//   wrong_tlast  number of a beat, over all frames, whose tlast is inverted; all ones for none
//   open         a new beat may be offered
//   m_axis_*     the stream; a beat offered stays until it is taken
module fsq_sim_source #(
    parameter WIDTH = 24,
    parameter BEATS = 64,
    parameter FILE = "image.txt"
) (
    input  wire             clk,
    input  wire             rst,
    input  wire [31:0]      frames,
    input  wire [31:0]      wrong_tlast,
    input  wire             open,
    output reg  [WIDTH-1:0] m_axis_tdata,
    output reg              m_axis_tvalid,
    input  wire             m_axis_tready,
    output reg              m_axis_tlast
);
    reg [31:0] sent /*verilator public_flat_rd*/;     // beats taken by the machine
    reg [31:0] blocked /*verilator public_flat_rd*/;  // cycles with tvalid and no tready
    reg [31:0] offered;
    reg [31:0] beat;
    reg [31:0] frame;

    integer file;
    integer code;
    reg [WIDTH-1:0] word;

    initial begin : open_file
        file = $fopen(FILE, "r");
        if (file == 0) $fatal(1, "fsq_sim_source: no file %s", FILE);
    end

    always @(posedge clk) begin : send
        if (rst) begin
            m_axis_tvalid <= 1'b0;
            m_axis_tlast <= 1'b0;
            m_axis_tdata <= {WIDTH{1'b0}};
            sent <= 0;
            blocked <= 0;
            offered <= 0;
            beat <= 0;
            frame <= 0;
            code = $rewind(file);
        end else begin
            if (m_axis_tvalid && m_axis_tready) sent <= sent + 1;
            if (m_axis_tvalid && !m_axis_tready) blocked <= blocked + 1;
            if (!m_axis_tvalid || m_axis_tready) begin
                m_axis_tvalid <= 1'b0;
                m_axis_tlast <= 1'b0;
                if (open && frame != frames) begin
                    code = $fscanf(file, "%h", word);
                    if (code != 1) $fatal(1, "fsq_sim_source: %s ends early", FILE);
                    m_axis_tdata <= word;
                    m_axis_tvalid <= 1'b1;
                    m_axis_tlast <= (beat == BEATS - 1) ^ (offered == wrong_tlast);
                    offered <= offered + 1;
                    beat <= (beat == BEATS - 1) ? 0 : beat + 1;
                    if (beat == BEATS - 1) frame <= frame + 1;
                end
            end
        end
    end
endmodule
