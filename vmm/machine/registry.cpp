#include "vmm/machine/registry.hpp"

#include <algorithm>
#include <array>

#include "devices/input/i8042.hpp"
#include "devices/interrupt/i8259.hpp"
#include "devices/interrupt/ioapic.hpp"
#include "devices/network/i82540em.hpp"
#include "devices/network/ne2000.hpp"
#include "devices/network/pcnet.hpp"
#include "devices/network/rtl8139.hpp"
#include "devices/pci/i440fx.hpp"
#include "devices/pci/piix3.hpp"
#include "devices/pci/piix4_pm.hpp"
#include "devices/serial/ns16550a.hpp"
#include "devices/storage/ahci.hpp"
#include "devices/storage/i82077aa.hpp"
#include "devices/storage/ide.hpp"
#include "devices/storage/nvme.hpp"
#include "devices/storage/piix3_ide.hpp"
#include "devices/system/cfi_flash.hpp"
#include "devices/system/coprocessor_errors.hpp"
#include "devices/system/debug_console.hpp"
#include "devices/system/exit_port.hpp"
#include "devices/system/firmware_disk.hpp"
#include "devices/system/fw_cfg.hpp"
#include "devices/system/i8237.hpp"
#include "devices/system/port92.hpp"
#include "devices/system/test_device.hpp"
#include "devices/timer/hpet.hpp"
#include "devices/timer/i8254.hpp"
#include "devices/timer/mc146818.hpp"
#include "devices/usb/uhci.hpp"
#include "devices/video/vga.hpp"
#include "devices/virtio/virtio_device.hpp"

namespace viv {
namespace {

struct Entry {
    std::string_view compatible;
    DeviceMaker make;
};

constexpr std::array entries{
    Entry{"amd,79c970a", make_pcnet},
    Entry{"bochs,vga", make_pci_vga},
    Entry{"cfi-flash", make_cfi_flash},
    Entry{"ibm,vga", make_vga},
    Entry{"intel,82077aa", make_i82077aa},
    Entry{"intel,82540em", make_i82540em},
    Entry{"intel,hpet", make_hpet},
    Entry{"intel,i440fx", make_i440fx},
    Entry{"intel,i8042", make_i8042},
    Entry{"intel,i8237", make_i8237},
    Entry{"intel,i8254", make_i8254},
    Entry{"intel,i8259", make_i8259},
    Entry{"intel,ich9-ahci", make_ahci},
    Entry{"intel,ioapic", make_ioapic},
    Entry{"intel,piix-ide", make_piix_ide},
    Entry{"intel,piix3", make_piix3},
    Entry{"intel,piix3-ide", make_piix3_ide},
    Entry{"intel,piix3-uhci", make_uhci},
    Entry{"intel,piix4-pm", make_piix4_pm},
    Entry{"motorola,mc146818", make_mc146818},
    Entry{"novell,ne2000", make_ne2000},
    Entry{"ns16550a", make_ns16550a},
    Entry{"qemu,fw-cfg-ioport", make_fw_cfg},
    Entry{"realtek,8029", make_rtl8029},
    Entry{"realtek,8139", make_rtl8139},
    Entry{"realtek,8139cp", make_rtl8139cp},
    Entry{"viv,coprocessor-errors", make_coprocessor_errors},
    Entry{"viv,debug-console", make_debug_console},
    Entry{"viv,exit-port", make_exit_port},
    Entry{"viv,firmware", make_firmware_disk},
    Entry{"viv,nvme", make_nvme},
    Entry{"viv,port92", make_port92},
    Entry{"viv,test-device", make_test_device},
    Entry{"virtio,mmio", make_virtio_mmio},
    Entry{"virtio,pci", make_virtio_pci},
};

}  // namespace

DeviceMaker find_device_maker(std::string_view compatible) {
    const auto at = std::ranges::find(entries, compatible, &Entry::compatible);
    return at == entries.end() ? nullptr : at->make;
}

std::vector<std::string_view> known_devices() {
    std::vector<std::string_view> names;
    for (const Entry& entry : entries) names.push_back(entry.compatible);
    return names;
}

}  // namespace viv
