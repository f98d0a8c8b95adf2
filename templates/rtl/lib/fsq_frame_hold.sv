// Stops a stream of frames between two frames, and counts the frames in work: says when the last one has left.
//
// Parameters
//   COUNT_BITS   bits of the counter of frames in work; the machine holds fewer than 2^COUNT_BITS frames
//
// Ports
//   clk, rst   clock; synchronous reset, active high: frames are held, none is in work
//   want       asks for a stop; rises and falls at any time
//   offered    a beat waits at the input, whether held or not
//   taken      the beat passes: offered, not held and accepted behind
//   last       the beat is the last of its frame
//   left       the last result of a frame leaves the machine
//   held       no beat may pass: no sooner than between two frames, and never while a beat is offered to the machine
//   idle       held, and every frame that came in has left
//
// A stop takes effect the cycle after `want` when the input is between frames, else the cycle after the frame's last beat.
module fsq_frame_hold #(
    parameter COUNT_BITS = 16
) (
    input  wire clk,
    input  wire rst,
    input  wire want,
    input  wire offered,
    input  wire taken,
    input  wire last,
    input  wire left,
    output wire held,
    output wire idle
);
    initial begin : check_parameters
        if (COUNT_BITS < 1) $fatal(1, "fsq_frame_hold: COUNT_BITS=%0d, 1 or more was expected", COUNT_BITS);
    end

    reg                  held_reg;
    reg                  inside_reg;   // a frame has begun and its last beat has not come
    reg [COUNT_BITS-1:0] work_reg;     // frames begun and not left
    wire begins = taken && !inside_reg;
    wire inside_next = taken ? !last : inside_reg;
    wire waits = offered && !held_reg && !taken;

    assign held = held_reg;
    assign idle = held_reg && work_reg == {COUNT_BITS{1'b0}};

    always_ff @(posedge clk) begin : control
        if (rst) begin
            held_reg <= 1'b1;
            inside_reg <= 1'b0;
            work_reg <= {COUNT_BITS{1'b0}};
        end else begin
            // A beat that is offered stays offered until it is taken: the stop waits for it, and with it for its frame.
            held_reg <= want && (held_reg || (!inside_next && !waits));
            inside_reg <= inside_next;
            if (begins && !left) work_reg <= work_reg + 1'b1;
            else if (left && !begins) work_reg <= work_reg - 1'b1;
        end
    end
endmodule
