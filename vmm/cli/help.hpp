#pragma once

namespace viv::cli {

// Each text fits a terminal of 80 by 24.
inline constexpr const char* main_help = R"(Vivarium boots unmodified PC operating systems, each in a sealed machine.

  viv IMAGE...               boot a floppy or disk image (short for viv run)
  viv run [OPTIONS] IMAGE... boot with options; see viv run --help
  viv board [OPTIONS]        print the machine that these options make, as DTS
  viv image COMMAND          make, check, convert, commit disk images
  viv --version | --help

Examples:
  viv freedos.img                        in this terminal; Ctrl-] opens a menu
  viv run --snapshot --memory 256M disk.img
  viv run dos.img --until 'A:\>' --type 'dir\n' --until 'bytes free'
  viv run linux.img --display none --serial stdio
  viv board > my.dts; viv run --board my.dts dos.img

Exit codes: 0 done, 1 failure, 2 wrong usage, 3 the guest died,
124 time-out; with --exit-port the code that the guest writes.
)";

inline constexpr const char* run_help = R"(viv run [OPTIONS] IMAGE...    boot; images are recognised by content
 Machine  --memory SIZE (128M)  --cpus N (1)  --cpu MODEL[,+-FEATURE]
          --engine auto|kvm|soft  --board FILE (.dtb or .dts)
          --clock host|virtual  --mips N (100): virtual time, repeatable
 Drives   --floppy F  --disk F[,bus=ahci|nvme|virtio]  --cdrom F (repeat)
          --disk F,format=raw|qcow2  F,cache=writeback|none|writethrough|unsafe
          --read-only   refuse writes   --snapshot  forget writes at the end
          --boot LIST   floppy,disk,cdrom or names (floppy1); menu shows a menu
 Kernel   --kernel F  --initrd F  --append 'TEXT'  --kernel-entry 16|32|64
 Other    --firmware F [--firmware-vars F]  --smbios serial=S,...  --virtio KIND
          --usb tablet|keyboard|mouse  --share DIR[:TAG][,ro]  --vsock socket=F
 Network  --net user|switch:N|none[,model=M] --ssh --publish HOST:GUEST --pcap F
 Serial   --serial SPEC (repeat for COM2...): null stdio file:PATH pty
          unix:PATH[,server] tcp:HOST:PORT[,server]
 Display  --display terminal|none     --screenshot FILE.png (at the end)
 Script   --until TEXT   wait for text on the screen or a serial port
          --type TEXT    type: \n \t \e, <enter> <f1> <up> <ctrl-alt-del>
          --click X,Y  --insert [DRIVE=]FILE  --eject DRIVE  --power-button
          --wait SECONDS --link nic0=up|down --grow disk0=SIZE --move kvm|soft
          --timeout SECONDS (code 124)  --exit-port PORT: a byte ends the run
          --json  --stats  --digest  at the end    --no-reboot    --test-device
          --trace FILE [--trace-only exits,interrupts,ring=3,range=7c00-7dff]
Example:
  viv run --kernel vmlinuz --append console=ttyS0 --serial stdio
)";

inline constexpr const char* image_help = R"(viv image COMMAND [OPTIONS] FILE...    disk images: qcow2 and raw
 create FILE [SIZE]   an empty disk; with --backing F --backing-format raw|qcow2
                      it shows what F holds and keeps what is written
 info FILE            what it is; --chain: with all that back it
 check FILE           whether a qcow2 image is sound; --repair leaks|all
 convert FROM TO      a copy in another form; --compress packs it; --backing F
                      --backing-format X: only what differs from F
 resize FILE SIZE     or +SIZE; --shrink if it is to lose its end
 compare ONE OTHER    whether two disks hold the same (code 1 if not)
 commit FILE          what it holds into its backing file; --keep it, too
 rebase FILE          --backing F --backing-format X: another backing file, or
                      none, and FILE takes the data that this would change;
                      --unsafe changes the name alone
 create, convert      --format qcow2|raw (qcow2)  --cluster-size 64K  --force
     --compression zlib|zstd  --preallocation off|metadata|falloc|full
     --version 3  --refcount-bits 16  --lazy-refcounts  --extended-l2
 all but create       --source-format raw|qcow2 instead of a look  --json
Files that are made get their name when they are complete. FILE,snapshot=NAME
reads an internal snapshot. Codes: 0 done, 1 failure or findings, 2 usage.
Examples:
  viv image create disk.qcow2 20G
  viv image create work.qcow2 --backing base.qcow2 --backing-format qcow2
  viv image convert --compress disk.img disk.qcow2
  viv image check --repair all disk.qcow2
)";

inline constexpr const char* board_help =
    R"(viv board [OPTIONS] [IMAGE...]   print the machine as device tree source

Takes the machine, drive and serial options of viv run, and prints the tree
that they make. viv run --board FILE runs it again, edited or not.

Examples:
  viv board > my.dts
  viv board --memory 1G --cpus 4 | dtc -O dtb -o my.dtb
)";

}  // namespace viv::cli
