// Compares a stream beat by beat with a golden file (one beat a line, hexadecimal) and counts where time is lost. Simulation only.
//
// Parameters
//   BITS, LANES  bits of a value, values a beat
//   FILE         golden file; frames follow each other
//
// Ports
//   clk, rst     clock; reset starts again at the first line
//   tdata ...    the stream that is watched
module fsq_sim_monitor #(
    parameter BITS = 8,
    parameter LANES = 1,
    parameter FILE = "stream.txt"
) (
    input wire                  clk,
    input wire                  rst,
    input wire [LANES*BITS-1:0] tdata,
    input wire                  tvalid,
    input wire                  tready
);
    reg [31:0] compared /*verilator public_flat_rd*/;       // beats
    reg [31:0] wrong_values /*verilator public_flat_rd*/;   // values that differ
    reg [31:0] surplus /*verilator public_flat_rd*/;        // beats beyond the golden file
    reg [31:0] unstable /*verilator public_flat_rd*/;       // beats that changed or vanished while they waited
    reg [31:0] blocked /*verilator public_flat_rd*/;        // cycles with tvalid and no tready
    reg [31:0] starved /*verilator public_flat_rd*/;        // cycles with tready and no tvalid
    reg        found /*verilator public_flat_rd*/;          // a beat differed; the next three describe the first
    reg [31:0] first_beat /*verilator public_flat_rd*/;
    reg [LANES*BITS-1:0] first_expected /*verilator public_flat_rd*/;
    reg [LANES*BITS-1:0] first_got /*verilator public_flat_rd*/;

    integer file;
    integer code;
    integer lane;
    integer different;
    reg [LANES*BITS-1:0] expected;
    reg [LANES*BITS-1:0] held;
    reg                  waits;

    initial begin : open_file
        file = $fopen(FILE, "r");
        if (file == 0) $fatal(1, "fsq_sim_monitor: no golden file %s", FILE);
    end

    always @(posedge clk) begin : watch
        if (rst) begin
            compared <= 0;
            wrong_values <= 0;
            surplus <= 0;
            unstable <= 0;
            blocked <= 0;
            starved <= 0;
            found <= 1'b0;
            waits <= 1'b0;
            code = $rewind(file);
        end else begin
            if (waits && (tvalid !== 1'b1 || tdata !== held)) unstable <= unstable + 1;
            waits <= tvalid && !tready;
            held <= tdata;
            if (tvalid && !tready) blocked <= blocked + 1;
            if (!tvalid && tready) starved <= starved + 1;
            if (tvalid && tready) begin
                compared <= compared + 1;
                code = $fscanf(file, "%h", expected);
                if (code != 1) surplus <= surplus + 1;
                else if (tdata !== expected) begin
                    different = 0;
                    for (lane = 0; lane < LANES; lane = lane + 1)
                        if (tdata[lane*BITS +: BITS] !== expected[lane*BITS +: BITS]) different = different + 1;
                    wrong_values <= wrong_values + different;
                    if (!found) begin
                        found <= 1'b1;
                        first_beat <= compared;
                        first_expected <= expected;
                        first_got <= tdata;
                    end
                end
            end
        end
    end
endmodule
