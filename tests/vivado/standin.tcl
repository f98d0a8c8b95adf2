# Recording stand-ins of the Vivado commands for projects, IP packaging and runs; block designs are in standin_bd.tcl.
#
#     tclsh standin.tcl SCRIPT ARGUMENT...     FSQ_RECORD: file for the commands that ran; FSQ_BOARD_PARTS: installed board files; FSQ_WNS: slack that a run gets
#
# A command or option that is not known, a file that does not exist, a property that an object does not have: an error. Nothing is synthesised.

namespace eval standin {
    variable record {}
    variable project ""         ;# dict: name, folder, part, properties, files (path -> type)
    variable core ""            ;# the IP core being packaged
    variable repository {}      ;# vlnv -> definition of packaged cores on disk, by folder
    variable installed {}       ;# vlnv list that update_ip_catalog found
    variable severities {}
    variable runs {}

    proc note {args} {
        variable record
        lappend record $args
    }

    # Options of a command: specification {-flag 0 -value 1 ...}; returns {dict of options, rest}.
    proc options {command specification arguments} {
        set found {}
        set rest {}
        for {set i 0} {$i < [llength $arguments]} {incr i} {
            set word [lindex $arguments $i]
            if {[string match -* $word] && [dict exists $specification $word]} {
                if {[dict get $specification $word]} {
                    dict set found $word [lindex $arguments [incr i]]
                } else {
                    dict set found $word 1
                }
            } elseif {[string match {-[a-z]*} $word]} {
                error "$command: unknown option $word"
            } else {
                lappend rest $word
            }
        }
        return [list $found $rest]
    }

    proc need_project {command} {
        variable project
        if {$project eq ""} {
            error "$command: no project is open"
        }
    }

    proc value_fits {value values} {
        if {$values eq "*"} {
            return 1
        }
        if {[lindex $values 1] eq ".."} {
            return [expr {[string is double -strict $value] && $value >= [lindex $values 0] && $value <= [lindex $values 2]}]
        }
        return [expr {$value in $values}]
    }

    proc read_text {path} {
        set file [open $path]
        set text [read $file]
        close $file
        return $text
    }

    # Module of a Verilog source: {parameters, ports {name {direction width}}}.
    proc module_of {path name} {
        set text [regsub -all {//[^\n]*} [read_text $path] {}]
        regsub -all {\(\*.*?\*\)} $text {} text
        if {![regexp "module\\s+$name\\s*(?:#\\s*\\((.*?)\\)\\s*)?\\((.*?)\\);" $text -> parameters ports]} {
            return ""
        }
        set names {}
        foreach {all parameter} [regexp -all -inline {parameter\s+(?:\[[^\]]*\]\s*)?(\w+)} $parameters] {
            lappend names $parameter
        }
        set found {}
        foreach {all direction high port} [regexp -all -inline {(input|output)\s+(?:wire|reg)?\s*(?:\[\s*(\d+)\s*:\s*0\s*\])?\s*(\w+)} $ports] {
            dict set found $port [list [string map {input in output out} $direction] [expr {$high eq "" ? 1 : $high + 1}]]
        }
        return [list $names $found]
    }

    # AXI4-Stream interfaces of a module by the names of its ports: {name {mode width}}.
    proc streams_of {ports} {
        set found {}
        dict for {port shape} $ports {
            if {[regexp {^(.*)_tdata$} $port -> name]} {
                foreach suffix {tvalid tready tlast} {
                    if {![dict exists $ports ${name}_$suffix]} {
                        error "stream $name: no port ${name}_$suffix"
                    }
                }
                dict set found $name [list [expr {[lindex $shape 0] eq "in" ? "slave" : "master"}] [lindex $shape 1]]
            }
        }
        return $found
    }
}

# ---------------------------------------------------------------- projects and files
proc create_project {args} {
    lassign [standin::options create_project {-force 0 -part 1} $args] o rest
    if {$standin::project ne ""} {
        error "create_project: [dict get $standin::project name] is still open"
    }
    if {![dict exists $o -part] || [dict get $o -part] ni $::env(FSQ_PARTS)} {
        error "create_project: part [expr {[dict exists $o -part] ? [dict get $o -part] : {none}}] is not installed"
    }
    lassign $rest name folder
    file mkdir $folder
    set standin::project [dict create name $name folder $folder part [dict get $o -part] properties {} files {} fileset {}]
    standin::note create_project $name [dict get $o -part]
    return $name
}
proc close_project {args} {
    standin::need_project close_project
    set standin::project ""
    set bd::cells {}
}
proc current_project {args} { standin::need_project current_project; return "project" }
proc current_fileset {args} { standin::need_project current_fileset; return "fileset" }
proc add_files {args} {
    standin::need_project add_files
    lassign [standin::options add_files {-norecurse 0} $args] o rest
    if {[llength $rest] != 1} {
        error "add_files: one list of files was expected"
    }
    # A single path may hold spaces; a list is of paths that exist.
    set paths [expr {[file exists [lindex $rest 0]] ? $rest : [lindex $rest 0]}]
    foreach path $paths {
        if {![file isfile $path]} {
            error "add_files: $path does not exist"
        }
        dict set standin::project files $path [string map {.sv SystemVerilog .v Verilog .bd BlockDesign} [file extension $path]]
        standin::note add_files [file tail $path]
    }
    return $paths
}
proc get_files {args} {
    standin::need_project get_files
    set found {}
    foreach path [dict keys [dict get $standin::project files]] {
        if {[string match [lindex $args end] [file tail $path]]} {
            lappend found file:$path
        }
    }
    if {[llength $found] == 0} {
        error "get_files: no file matches [lindex $args end]"
    }
    return $found
}
proc update_compile_order {args} {
    standin::need_project update_compile_order
    standin::check_top
}

# Every module of the hierarchy and every memory file that it names must be among the project's files.
proc standin::check_top {} {
    variable project
    if {![dict exists $project fileset top]} {
        error "update_compile_order: no top was set"
    }
    set modules {}
    set texts {}
    foreach path [dict keys [dict get $project files]] {
        if {[file extension $path] in {.sv .v}} {
            set text [regsub -all {//[^\n]*} [read_text $path] {}]
            foreach {all name} [regexp -all -inline {\mmodule\s+(\w+)} $text] {
                dict set modules $name $path
                lappend texts $text
            }
        }
    }
    set top [dict get $project fileset top]
    if {![dict exists $modules $top]} {
        error "update_compile_order: no file has the top module $top"
    }
    set names [lmap path [dict keys [dict get $project files]] {file tail $path}]
    foreach text $texts {
        foreach {all name} [regexp -all -inline {\m(fsq_\w+)\s+#\s*\(} $text] {
            if {![dict exists $modules $name]} {
                error "update_compile_order: module $name is instantiated, no file has it"
            }
        }
        foreach {all name} [regexp -all -inline {WEIGHTS,\s*"([^"]+)"} $text] {
            if {$name ni $names} {
                error "update_compile_order: memory file $name is read, it is not among the files"
            }
        }
    }
}

proc set_msg_config {args} {
    lassign [standin::options set_msg_config {-id 1 -new_severity 1} $args] o rest
    standin::note set_msg_config [dict get $o -id] [dict get $o -new_severity]
}

# ---------------------------------------------------------------- properties
proc set_property {args} {
    if {[lindex $args 0] eq "-dict"} {
        lassign $args - pairs objects
    } else {
        lassign $args name value objects
        set pairs [list $name $value]
    }
    if {[llength $objects] == 0} {
        error "set_property $pairs: no object"
    }
    if {[llength $pairs] % 2} {
        error "set_property -dict: an even number of words was expected: $pairs"
    }
    foreach object $objects {
        foreach {name value} $pairs {
            standin::set_one $object $name $value
        }
    }
}
proc standin::set_one {object name value} {
    variable project
    note set_property $object $name $value
    switch -glob $object {
        project {
            if {$name eq "board_part"} {
                if {$value ni $::env(FSQ_BOARD_PARTS)} {
                    error "set_property board_part: $value is not installed"
                }
            } elseif {$name eq "ip_repo_paths"} {
                foreach folder $value {
                    if {![file isfile [file join $folder component.xml]]} {
                        error "ip_repo_paths: no IP core in $folder"
                    }
                }
            } else {
                error "set_property: a project has no property $name"
            }
            dict set project properties $name $value
        }
        fileset {
            if {$name ne "top"} {
                error "set_property: a file set has no property $name"
            }
            dict set project fileset top $value
        }
        file:* {
            if {$name eq "file_type"} {
                if {$value ni {SystemVerilog Verilog "Memory Initialization Files"}} {
                    error "set_property file_type: $value is no type"
                }
                dict set project files [string range $object 5 end] $value
            } elseif {$name ne "synth_checkpoint_mode" || $value ni {None Singular Hierarchical}} {
                error "set_property: a file has no property $name = $value"
            }
        }
        core {
            if {$name ni {name version display_name description}} {
                error "set_property: an IP core has no property $name"
            }
            dict set ::standin::core $name $value
        }
        parameter:* {
            if {$name ne "value"} {
                error "set_property: a user parameter has no property $name"
            }
        }
        /* { bd::set_config $object $name $value }
        default { error "set_property: $object is no object" }
    }
}
proc get_property {name object} {
    switch -glob $object {
        run:* {
            return [switch -- $name {
                PROGRESS { expr {"100%"} }
                STATUS { expr {"write_bitstream Complete!"} }
                DIRECTORY { standin::run_folder }
                STATS.WNS { set ::env(FSQ_WNS) }
                default { error "get_property: a run has no property $name" }
            }]
        }
        /* { return [bd::get_config $object $name] }
        default { error "get_property: $object has no property $name here" }
    }
}

# ---------------------------------------------------------------- packaging
namespace eval ipx {}
proc ipx::package_project {args} {
    standin::need_project ipx::package_project
    lassign [standin::options ipx::package_project {-root_dir 1 -vendor 1 -library 1 -taxonomy 1 -import_files 0 -set_current 1} $args] o rest
    standin::check_top
    set top [dict get $standin::project fileset top]
    foreach {path type} [dict get $standin::project files] {
        set shape [expr {[file extension $path] in {.sv .v} ? [standin::module_of $path $top] : ""}]
        if {$shape ne ""} {
            break
        }
    }
    if {$shape eq ""} {
        error "ipx::package_project: the ports of $top cannot be read"
    }
    foreach {path type} [dict get $standin::project files] {
        if {[file extension $path] eq ".hex" && $type ne "Memory Initialization Files"} {
            error "ipx::package_project: [file tail $path] is no memory initialization file"
        }
    }
    file mkdir [dict get $o -root_dir]
    set standin::core [dict create root [dict get $o -root_dir] vendor [dict get $o -vendor] library [dict get $o -library] name $top version 1.0 \
        parameters [lindex $shape 0] ports [lindex $shape 1] streams [standin::streams_of [lindex $shape 1]] clocks {} saved 0]
    standin::note ipx::package_project $top
}
proc ipx::current_core {} {
    if {$standin::core eq ""} {
        error "ipx::current_core: none"
    }
    return core
}
proc ipx::get_bus_interfaces {args} {
    lassign [standin::options ipx::get_bus_interfaces {-quiet 0 -of_objects 1} $args] o rest
    set name [lindex $rest 0]
    if {[dict exists $standin::core streams $name]} {
        return bus:$name
    }
    return [expr {$name in {ap_clk ap_rst_n} && [dict exists $standin::core ports $name] ? "bus:$name" : ""}]
}
proc ipx::infer_bus_interfaces {definition core} {
    if {$definition ne "xilinx.com:interface:axis_rtl:1.0"} {
        error "ipx::infer_bus_interfaces: $definition is not known"
    }
}
proc ipx::associate_bus_interfaces {args} {
    lassign [standin::options ipx::associate_bus_interfaces {-busif 1 -clock 1} $args] o rest
    set name [dict get $o -busif]
    if {![dict exists $standin::core streams $name]} {
        error "ipx::associate_bus_interfaces: no interface $name"
    }
    if {![dict exists $standin::core ports [dict get $o -clock]]} {
        error "ipx::associate_bus_interfaces: no clock [dict get $o -clock]"
    }
    dict set standin::core clocks $name [dict get $o -clock]
}
proc ipx::get_user_parameters {args} {
    lassign [standin::options ipx::get_user_parameters {-quiet 0 -of_objects 1} $args] o rest
    return [expr {[lindex $rest 0] in [dict get $standin::core parameters] ? "parameter:[lindex $rest 0]" : ""}]
}
proc ipx::create_xgui_files {core} {}
proc ipx::update_checksums {core} {}
proc ipx::check_integrity {core} {
    dict for {name stream} [dict get $standin::core streams] {
        if {![dict exists $standin::core clocks $name]} {
            error "ipx::check_integrity: interface $name has no clock"
        }
    }
}
proc ipx::save_core {core} {
    set file [open [file join [dict get $standin::core root] component.xml] w]
    puts $file $standin::core
    close $file
    standin::note ipx::save_core [dict get $standin::core name] [dict get $standin::core streams]
    set standin::core ""
}
proc update_ip_catalog {args} {
    standin::need_project update_ip_catalog
    foreach folder [dict get $standin::project properties ip_repo_paths] {
        bd::install [string trim [standin::read_text [file join $folder component.xml]]]
    }
}
proc get_board_parts {args} {
    lassign [standin::options get_board_parts {-quiet 0} $args] o rest
    return [lsearch -all -inline -glob $::env(FSQ_BOARD_PARTS) [lindex $rest 0]]
}

# ---------------------------------------------------------------- synthesis and runs
proc standin::run_folder {} {
    variable project
    return [file join [dict get $project folder] [dict get $project name].runs impl_1]
}
proc synth_design {args} {
    lassign [standin::options synth_design {-top 1 -part 1 -mode 1 -generic 1} $args] o rest
    standin::check_top
    if {[dict exists $o -generic]} {
        if {![regexp {^WEIGHTS="(.*)/"$} [dict get $o -generic] -> folder] || ![file isdirectory $folder]} {
            error "synth_design: generic [dict get $o -generic] names no folder"
        }
    }
    standin::note synth_design [dict get $o -top] [dict get $o -mode]
}
proc create_clock {args} {
    lassign [standin::options create_clock {-period 1 -name 1} $args] o rest
    if {![string is double -strict [dict get $o -period]]} {
        error "create_clock: no period"
    }
    standin::note create_clock [dict get $o -period]
}
proc get_ports {name} {
    set top [dict get $standin::project fileset top]
    foreach path [dict keys [dict get $standin::project files]] {
        set shape [expr {[file extension $path] in {.sv .v} ? [standin::module_of $path $top] : ""}]
        if {$shape ne ""} {
            if {![dict exists [lindex $shape 1] $name]} {
                error "get_ports: $top has no port $name"
            }
            return port:$name
        }
    }
    error "get_ports: no top"
}
proc report_utilization {args} { standin::options report_utilization {-hierarchical 0 -file 1} $args }
proc report_timing_summary {args} { standin::options report_timing_summary {-file 1} $args }
proc close_design {} {}
proc open_run {name} { standin::note open_run $name }
proc get_runs {name} {
    if {$name ne "impl_1"} {
        error "get_runs: no run $name"
    }
    return run:impl_1
}
proc launch_runs {args} {
    lassign [standin::options launch_runs {-to_step 1 -jobs 1} $args] o rest
    if {$rest ne "impl_1" || [dict get $o -to_step] ne "write_bitstream" || ![string is integer -strict [dict get $o -jobs]]} {
        error "launch_runs: $args"
    }
    if {![dict exists $standin::project fileset top] || [dict get $standin::project fileset top] ne "system_wrapper"} {
        error "launch_runs: the wrapper of the block design is not the top"
    }
    file mkdir [standin::run_folder]
    close [open [file join [standin::run_folder] system_wrapper.bit] w]
    standin::note launch_runs impl_1
}
proc wait_on_run {name} { get_runs $name }
proc write_hw_platform {args} {
    lassign [standin::options write_hw_platform {-fixed 0 -include_bit 0 -force 0 -file 1} $args] o rest
    close [open [dict get $o -file] w]
}

# ---------------------------------------------------------------- the script under test
set standin_folder [file dirname [file normalize [info script]]]
source [file join $standin_folder ip_catalogue.tcl]
source [file join $standin_folder standin_bd.tcl]

set script [lindex $argv 0]
set argv [lrange $argv 1 end]
set argc [llength $argv]
set argv0 $script
set failed [catch {source $script} message]
if {[info exists env(FSQ_RECORD)]} {
    set file [open $env(FSQ_RECORD) w]
    foreach line $standin::record {
        puts $file $line
    }
    close $file
}
if {$failed} {
    puts stderr "STANDIN error: $message"
    exit 1
}
puts "STANDIN ok: [llength $standin::record] commands"
