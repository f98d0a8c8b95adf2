# Stand-ins of Vivado's block design commands over the cores of ip_catalogue.tcl. validate_bd_design is stricter than Vivado's: everything that needs a
# clock, a reset or a partner must have one, streams must be as wide on both sides, and every register block must have an address its master reaches.

namespace eval bd {
    variable open 0
    variable cells {}       ;# /name -> {vlnv, config}
    variable nets {}        ;# net number -> pins
    variable links {}       ;# list of {interface interface}
    variable external {}    ;# interfaces made external
    variable addresses {}   ;# list of {space segment offset range}
    variable automatic 0    ;# assign_bd_address without arguments ran
    variable valid 0

    proc definition {cell} {
        variable cells
        return [dict get $::catalogue::cores [dict get $cells $cell vlnv]]
    }

    # A packaged core, read from its component.xml stand-in.
    proc install {core} {
        set vlnv [dict get $core vendor]:[dict get $core library]:[dict get $core name]:[dict get $core version]
        set properties {}
        foreach name [dict get $core parameters] {
            dict set properties $name [list "" *]
        }
        set pins {}
        set interfaces {}
        dict for {name shape} [dict get $core ports] {
            if {[regexp {^(.*)_t(data|valid|ready|last|keep)$} $name]} {
                continue
            }
            set kind [string map {ap_clk clk ap_rst_n rstn} $name]
            if {$kind eq $name} {
                set kind data
            }
            dict set pins $name [list [lindex $shape 0] $kind [lindex $shape 1] 1 [expr {[lindex $shape 0] eq "in"}]]
        }
        dict for {name stream} [dict get $core streams] {
            dict set interfaces $name [list [lindex $stream 0] axis [lindex $stream 1] [dict get $core clocks $name] 1 1]
        }
        dict set ::catalogue::cores $vlnv [dict create properties $properties pins $pins interfaces $interfaces segments {}]
    }

    # An expression over a cell's properties.
    proc evaluate {cell text} {
        variable cells
        if {$text eq "any"} {
            return any
        }
        dict for {name value} [dict get $cells $cell config] {
            set $name $value
        }
        return [expr $text]
    }

    proc split_path {path} {
        set path [string trimleft $path /]
        regexp {^([^/]+)/(.+)$} $path -> cell name
        if {![info exists cell]} {
            return {"" ""}
        }
        return [list /$cell $name]
    }

    # {direction kind width need} of a pin that exists now, or "".
    proc pin_of {path} {
        variable cells
        lassign [split_path $path] cell name
        if {![dict exists $cells $cell] || ![dict exists [definition $cell] pins $name]} {
            return ""
        }
        lassign [dict get [definition $cell] pins $name] direction kind width when need
        if {![evaluate $cell $when]} {
            return ""
        }
        return [list $direction $kind [evaluate $cell $width] $need]
    }

    # {mode protocol width clock need} of an interface that exists now, or "".
    proc interface_of {path} {
        variable cells
        lassign [split_path $path] cell name
        if {![dict exists $cells $cell] || ![dict exists [definition $cell] interfaces $name]} {
            return ""
        }
        lassign [dict get [definition $cell] interfaces $name] mode protocol width clock when need
        if {![evaluate $cell $when]} {
            return ""
        }
        return [list $mode $protocol [evaluate $cell $width] $clock $need]
    }

    proc set_config {cell name value} {
        variable cells
        if {![dict exists $cells $cell]} {
            error "set_property: no cell $cell"
        }
        if {![regsub {^CONFIG\.} $name {} key] || ![dict exists [definition $cell] properties $key]} {
            error "set_property: $cell ([dict get $cells $cell vlnv]) has no property $name"
        }
        set values [lindex [dict get [definition $cell] properties $key] 1]
        if {![standin::value_fits $value [uplevel #0 [list subst $values]]]} {
            error "set_property: $cell $name takes $values, got $value"
        }
        dict set cells $cell config $key $value
    }

    proc get_config {path name} {
        set pin [pin_of $path]
        if {$name ne "CONFIG.FREQ_HZ" || [lindex $pin 1] ne "clk"} {
            error "get_property: $path has no property $name"
        }
        return 199998001
    }

    proc net_of {pin} {
        variable nets
        dict for {number pins} $nets {
            if {$pin in $pins} {
                return $number
            }
        }
        return ""
    }
}

proc create_bd_design {name} {
    standin::need_project create_bd_design
    set bd::open 1
    foreach variable {cells nets links external addresses} {
        set bd::$variable {}
    }
    set bd::automatic 0
    dict set standin::project design $name
    standin::note create_bd_design $name
}
proc create_bd_cell {args} {
    lassign [standin::options create_bd_cell {-type 1 -vlnv 1} $args] o rest
    if {!$bd::open} {
        error "create_bd_cell: no block design is open"
    }
    if {[dict get $o -type] ne "ip"} {
        error "create_bd_cell: type [dict get $o -type]"
    }
    set found [lsearch -all -inline -glob [dict keys $::catalogue::cores] [dict get $o -vlnv]]
    if {[llength $found] != 1} {
        error "create_bd_cell: [llength $found] cores are called [dict get $o -vlnv]"
    }
    set cell /[lindex $rest 0]
    if {[dict exists $bd::cells $cell]} {
        error "create_bd_cell: $cell is there already"
    }
    set config {}
    dict for {name property} [dict get $::catalogue::cores $found properties] {
        dict set config $name [lindex $property 0]
    }
    dict set bd::cells $cell [dict create vlnv $found config $config]
    standin::note create_bd_cell $cell $found
    return $cell
}
proc get_bd_cells {name} {
    set cell /[string trimleft $name /]
    if {![dict exists $bd::cells $cell]} {
        error "get_bd_cells: no cell $name"
    }
    return $cell
}
proc apply_bd_automation {args} {
    lassign [standin::options apply_bd_automation {-rule 1 -config 1} $args] o cell
    set core [lindex [split [dict get $bd::cells $cell vlnv] :] 2]
    if {[dict get $o -rule] ne "xilinx.com:bd_rule:$core"} {
        error "apply_bd_automation: rule [dict get $o -rule] is not for $core"
    }
    set known {processing_system7 {make_external apply_board_preset Master Slave} zynq_ultra_ps_e {apply_board_preset}}
    dict for {name value} [dict get $o -config] {
        if {$name ni [dict get $known $core]} {
            error "apply_bd_automation: $core takes no $name"
        }
    }
    if {[dict get $o -config apply_board_preset] && ![dict exists $standin::project properties board_part]} {
        error "apply_bd_automation: a preset was asked for and the project has no board_part"
    }
    if {$core eq "processing_system7" && [dict get $o -config make_external] eq "FIXED_IO, DDR"} {
        lappend bd::external $cell/DDR $cell/FIXED_IO
    }
    if {$core eq "zynq_ultra_ps_e"} {
        # The boards' presets switch both FPD masters on.
        dict set bd::cells $cell config PSU__USE__M_AXI_GP0 1
        dict set bd::cells $cell config PSU__USE__M_AXI_GP1 1
    }
    standin::note apply_bd_automation $cell [dict get $o -config]
}
proc get_bd_pins {args} {
    lassign [standin::options get_bd_pins {-quiet 0} $args] o name
    return [expr {[bd::pin_of $name] eq "" ? "" : "/[string trimleft $name /]"}]
}
proc get_bd_intf_pins {args} {
    lassign [standin::options get_bd_intf_pins {-quiet 0} $args] o name
    return [expr {[bd::interface_of $name] eq "" ? "" : "/[string trimleft $name /]"}]
}
proc connect_bd_net {args} {
    lassign [standin::options connect_bd_net {-net 1} $args] o pins
    set joined {}
    foreach pin $pins {
        if {[bd::pin_of $pin] eq ""} {
            error "connect_bd_net: no pin $pin"
        }
        set net [bd::net_of $pin]
        if {$net ne ""} {
            lappend joined {*}[dict get $bd::nets $net]
            dict unset bd::nets $net
        } else {
            lappend joined $pin
        }
    }
    dict set bd::nets [lindex $joined 0] $joined
    standin::note connect_bd_net {*}$pins
}
proc connect_bd_intf_net {args} {
    lassign [standin::options connect_bd_intf_net {-intf_net 1} $args] o ends
    if {[llength $ends] != 2} {
        error "connect_bd_intf_net: two interfaces were expected, got $ends"
    }
    foreach end $ends {
        if {[bd::interface_of $end] eq ""} {
            error "connect_bd_intf_net: no interface $end"
        }
        foreach link $bd::links {
            if {$end in $link} {
                error "connect_bd_intf_net: $end is connected already"
            }
        }
    }
    lappend bd::links $ends
    standin::note connect_bd_intf_net {*}$ends
}
proc get_bd_addr_spaces {name} {
    lassign [bd::split_path $name] cell space
    if {![dict exists $bd::cells $cell] || $space ne "Data"} {
        error "get_bd_addr_spaces: no address space $name"
    }
    return $cell/Data
}
proc get_bd_addr_segs {name} {
    lassign [bd::split_path $name] cell segment
    if {![dict exists $bd::cells $cell] || ![dict exists [bd::definition $cell] segments $segment]} {
        error "get_bd_addr_segs: no segment $name"
    }
    return $cell/$segment
}
proc assign_bd_address {args} {
    lassign [standin::options assign_bd_address {-target_address_space 1 -offset 1 -range 1} $args] o segment
    if {$segment eq ""} {
        set bd::automatic 1
        return
    }
    set range [string map {64K 65536 4K 4096} [dict get $o -range]]
    set offset [expr {[dict get $o -offset]}]
    if {$range < 4096 || $offset % $range} {
        error "assign_bd_address: $segment at [dict get $o -offset] is not aligned to its range of $range"
    }
    lappend bd::addresses [list [lindex [bd::split_path [dict get $o -target_address_space]] 0] $segment $offset $range]
    standin::note assign_bd_address $segment [dict get $o -offset]
}
proc save_bd_design {} { standin::note save_bd_design }
proc generate_target {target file} {
    if {!$bd::valid} {
        error "generate_target: the design was not validated"
    }
    set folder [file join [dict get $standin::project folder] [dict get $standin::project name].gen sources_1 bd system hw_handoff]
    file mkdir $folder
    close [open [file join $folder system.hwh] w]
}
proc make_wrapper {args} {
    lassign [standin::options make_wrapper {-files 1 -top 0} $args] o rest
    set path [file join [dict get $standin::project folder] system_wrapper.v]
    set file [open $path w]
    puts $file "module system_wrapper (input wire unused);\nendmodule"
    close $file
    return $path
}

# ---------------------------------------------------------------- validation
proc validate_bd_design {} {
    bd::check_pins
    bd::check_nets
    bd::check_interfaces
    bd::check_clocks
    bd::check_addresses
    set bd::valid 1
    set path [file join [dict get $standin::project folder] [dict get $standin::project design].bd]
    close [open $path w]
    dict set standin::project files $path BlockDesign
    standin::note validate_bd_design
}
proc bd::check_pins {} {
    variable cells
    foreach cell [dict keys $cells] {
        foreach name [dict keys [dict get [definition $cell] pins]] {
            set pin [pin_of $cell/$name]
            if {$pin ne "" && [lindex $pin 3] && [net_of $cell/$name] eq ""} {
                error "validate: [lindex $pin 1] pin $cell/$name is not connected"
            }
        }
        foreach name [dict keys [dict get [definition $cell] interfaces]] {
            set interface [interface_of $cell/$name]
            if {$interface ne "" && [lindex $interface 4] && "$cell/$name" ni [concat {*}$bd::links]} {
                error "validate: interface $cell/$name is not connected"
            }
        }
        if {[lindex [split [dict get $cells $cell vlnv] :] 2] eq "processing_system7" && "$cell/DDR" ni $bd::external} {
            error "validate: $cell has no external DDR and FIXED_IO"
        }
        if {[string match *axi_dma* [dict get $cells $cell vlnv]]} {
            check_dma $cell
        }
    }
}
# PG021: the memory side of a channel is at least as wide as its stream.
proc bd::check_dma {cell} {
    variable cells
    set config [dict get $cells $cell config]
    if {[dict get $config c_include_mm2s] && [dict get $config c_m_axi_mm2s_data_width] < [dict get $config c_m_axis_mm2s_tdata_width]} {
        error "validate: $cell reads memory in narrower words than it sends"
    }
    foreach link $bd::links {
        if {"$cell/S_AXIS_S2MM" in $link} {
            set width [lindex [interface_of [lindex $link [expr {[lindex $link 0] eq "$cell/S_AXIS_S2MM"}]]] 2]
            if {$width ni $::stream_widths || [dict get $config c_m_axi_s2mm_data_width] < $width} {
                error "validate: $cell cannot take a stream of $width bits"
            }
        }
    }
}
proc bd::check_nets {} {
    variable nets
    dict for {number pins} $nets {
        set drivers {}
        foreach pin $pins {
            if {[pin_of $pin] eq ""} {
                error "validate: pin $pin is connected and gone"
            }
            if {[lindex [pin_of $pin] 0] eq "out"} {
                lappend drivers $pin
            }
        }
        if {[llength $drivers] != 1} {
            error "validate: the net of $pins has [llength $drivers] drivers"
        }
        lassign [pin_of $drivers] - driver_kind driver_width
        foreach pin $pins {
            lassign [pin_of $pin] direction kind width
            if {$direction eq "out"} {
                continue
            }
            set same [expr {$kind eq $driver_kind || ($kind eq "anyrst" && $driver_kind in {rst rstn}) || ($kind in {irq data} && $driver_kind in {irq data})}]
            if {!$same} {
                error "validate: $drivers ($driver_kind) drives $pin ($kind)"
            }
            if {$width ne "any" && $width != $driver_width} {
                error "validate: $drivers of $driver_width bits drives $pin of $width bits"
            }
        }
    }
}
proc bd::check_interfaces {} {
    foreach link $bd::links {
        lassign $link from to
        lassign [interface_of $from] mode protocol width
        lassign [interface_of $to] other_mode other_protocol other_width
        if {$protocol ne $other_protocol || [lsort [list $mode $other_mode]] ne {master slave}} {
            error "validate: $from ($mode $protocol) and $to ($other_mode $other_protocol) cannot be joined"
        }
        if {$width && $other_width && $width != $other_width} {
            error "validate: $from of $width bits and $to of $other_width bits are joined"
        }
    }
}
# Both sides of an interface run on one clock: nothing here crosses clock domains.
proc bd::check_clocks {} {
    foreach link $bd::links {
        set clocks {}
        foreach end $link {
            set clock [lindex [interface_of $end] 3]
            lappend clocks [net_of [lindex [split_path $end] 0]/$clock]
        }
        if {[lindex $clocks 0] ne [lindex $clocks 1]} {
            error "validate: [join $link { and }] have different clocks"
        }
    }
}
proc bd::reached {cell master} {
    # Register slaves behind a master, through SmartConnects.
    variable cells
    set found {}
    foreach link $bd::links {
        if {"$cell/$master" in $link} {
            set other [lindex $link [expr {[lindex $link 0] eq "$cell/$master"}]]
            lassign [split_path $other] next port
            if {[string match *:smartconnect:* [dict get $cells $next vlnv]]} {
                foreach name [dict keys [dict get [definition $next] interfaces]] {
                    if {[string match M* $name] && [interface_of $next/$name] ne ""} {
                        lappend found {*}[reached $next $name]
                    }
                }
            } else {
                lappend found $other
            }
        }
    }
    return $found
}
proc bd::check_addresses {} {
    variable cells
    variable addresses
    variable automatic
    set taken {}
    foreach cell [dict keys $cells] {
        set core [lindex [split [dict get $cells $cell vlnv] :] 2]
        if {![dict exists $::catalogue::windows $core]} {
            continue
        }
        dict for {master window} [dict get $::catalogue::windows $core] {
            foreach slave [expr {[interface_of $cell/$master] eq "" ? {} : [reached $cell $master]}] {
                foreach address $addresses {
                    lassign $address space segment offset range
                    if {$space ne $cell || $segment ne "$slave/Reg"} {
                        continue
                    }
                    if {$offset < [lindex $window 0] || $offset + $range - 1 > [lindex $window 1]} {
                        error [format "validate: %s at 0x%X is outside %s" $segment $offset $master]
                    }
                    if {$offset in $taken} {
                        error [format "validate: two segments at 0x%X" $offset]
                    }
                    lappend taken $offset
                }
            }
        }
    }
    if {[llength $taken] != [llength $addresses]} {
        error "validate: a segment has an address that its master does not reach"
    }
    foreach cell [dict keys $cells] {
        foreach segment [dict keys [dict get [definition $cell] segments]] {
            if {[lsearch -exact -index 1 $addresses $cell/$segment] < 0} {
                error "validate: $cell/$segment has no address"
            }
        }
    }
    if {!$automatic} {
        error "validate: the memory has no address in the DMA's address spaces"
    }
    # Every memory master must end at a port of the processing system.
    foreach cell [dict keys $cells] {
        foreach name [dict keys [dict get [definition $cell] interfaces]] {
            lassign [interface_of $cell/$name] mode protocol
            if {$protocol eq "aximm" && $mode eq "master" && [string match *axi_dma* [dict get $cells $cell vlnv]]} {
                set ends [reached $cell $name]
                if {[llength $ends] == 0 || ![string match *_HP* [lindex $ends 0]]} {
                    error "validate: $cell/$name does not reach the memory"
                }
            }
        }
    }
}
