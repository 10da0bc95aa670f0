#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/pci/pci_registers.hpp"
#include "devices/pci/pci_rig_test.hpp"
#include "devices/usb/uhci.hpp"

namespace viv {

/// A controller with devices on its ports, 1 MiB of RAM, and a driver with one queue in every frame.
class UhciBoard : public PciBoard {
  public:
    /// A transfer descriptor as a driver makes it.
    struct Td {
        uint32_t pid = uhci::PID_IN;
        uint8_t address = 0;
        uint8_t endpoint = 0;
        uint32_t length = 0;
        uint32_t buffer = 0;
        uint32_t flags = uhci::IOC;  // further bits of the second word
    };

    static constexpr uint16_t base = 0xC800;
    static constexpr uint32_t frames = 0x1000, queue = 0x2000, descriptors = 0x3000, buffer = 0x4000;
    static constexpr PciAddress at{0, 1, 2};

    explicit UhciBoard(std::initializer_list<const char*> kinds = {"tablet", "keyboard"}) {
        if (!memory.add(Gpa{0}, 0x100000, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        uint32_t port = 0;
        for (const std::string kind : kinds) {
            ++port;
            TreeNode& child = node.children.emplace_back(TreeNode{"port@" + std::to_string(port), {}, {}});
            child.set_u32("reg", port);
            child.set_string("viv,device-type", kind);
            low_speed.push_back(kind != "tablet");
        }
        make_function(make_uhci, at.device, at.function);
        set_config(at, pci::BAR0 + 16, 4, base);
        set_config(at, pci::COMMAND, 2, pci::IO_SPACE | pci::BUS_MASTER);
        bus().pirq(PciBus::pirq_of(at, 4)).connect(wire, 0);
    }

    uint16_t reg(unsigned offset) { return in16(static_cast<uint16_t>(base + offset)); }
    void set(unsigned offset, uint16_t value) { out16(static_cast<uint16_t>(base + offset), value); }
    static unsigned port_at(unsigned port) { return uhci::PORTSC1 + 2 * port; }
    void wait_ms(int64_t milliseconds) { clock.advance(std::chrono::milliseconds(milliseconds)); }
    uint32_t word(uint32_t address) { return memory.load<uint32_t>(Gpa{address}); }
    void set_word(uint32_t address, uint32_t value) { memory.store(Gpa{address}, value); }

    /// As a driver starts the controller: an empty queue in every frame, all interrupts.
    void start() {
        for (uint32_t i = 0; i < 1024; ++i) set_word(frames + 4 * i, queue | uhci::LINK_QH);
        set_word(queue, uhci::LINK_TERMINATE);
        set_word(queue + 4, uhci::LINK_TERMINATE);
        ports.write(base + uhci::FLBASEADD, 4, frames);
        set(uhci::USBINTR, 0xF);
        set(uhci::USBCMD, uhci::RS | uhci::CF | uhci::MAXP);
    }
    void reset_port(unsigned port) {
        set(port_at(port), uhci::PORT_RESET);
        wait_ms(50);
        set(port_at(port), 0);
        set(port_at(port), uhci::PED | uhci::CSC | uhci::PEDC);
    }

    /// Makes a chain of these and hangs it into the queue.
    void put(const std::vector<Td>& chain, unsigned port = 0) {
        for (size_t i = 0; i < chain.size(); ++i) {
            const Td& td = chain[i];
            const uint32_t here = descriptor(i);
            const bool last = i + 1 == chain.size();
            set_word(here, last ? uhci::LINK_TERMINATE : descriptor(i + 1) | uhci::LINK_DEPTH_FIRST);
            const uint32_t speed = low_speed[port] ? uhci::LS : 0;
            set_word(here + 4, uhci::ACTIVE | uhci::C_ERR | uhci::ACTLEN | speed | td.flags);
            set_word(here + 8, td.pid | uint32_t{td.address} << 8 | uint32_t{td.endpoint} << 15 |
                                   ((td.length - 1) & 0x7FF) << 21);
            set_word(here + 12, td.buffer);
        }
        set_word(queue + 4, chain.empty() ? uhci::LINK_TERMINATE : descriptor(0));
    }
    static uint32_t descriptor(size_t index) { return static_cast<uint32_t>(descriptors + 32 * index); }
    uint32_t status(size_t index = 0) { return word(descriptor(index) + 4); }
    [[nodiscard]] static size_t length(uint32_t status_word) { return (status_word + 1) & 0x7FF; }

    /// A control transfer; its data, or nothing when the device refused it. An IN takes what there is.
    std::optional<std::vector<uint8_t>> control(unsigned port, std::array<uint8_t, 8> setup,
                                                const std::vector<uint8_t>& data = {}) {
        memory.write(Gpa{buffer}, std::as_bytes(std::span(setup)));
        const size_t size = setup[6] | setup[7] << 8;
        const bool to_host = setup[0] & 0x80 && size != 0;
        const uint8_t address = addresses.at(port);
        std::vector<Td> chain{{uhci::PID_SETUP, address, 0, 8, buffer}};
        memory.write(Gpa{buffer + 0x100}, std::as_bytes(std::span(data)));
        for (size_t done = 0; done < size; done += 8) {
            chain.push_back({to_host ? uhci::PID_IN : uhci::PID_OUT, address, 0,
                             static_cast<uint32_t>(std::min<size_t>(8, size - done)),
                             static_cast<uint32_t>(buffer + 0x100 + done)});
        }
        chain.push_back({to_host ? uhci::PID_OUT : uhci::PID_IN, address, 0, 0, buffer});
        put(chain, port);
        wait_ms(40);
        std::vector<uint8_t> got;
        for (size_t i = 0; i < chain.size(); ++i) {
            if (status(i) & (uhci::ACTIVE | uhci::STALLED)) return std::nullopt;
            if (to_host && i > 0 && i + 1 < chain.size()) {
                for (size_t at_byte = 0; at_byte < length(status(i)); ++at_byte)
                    got.push_back(memory.load<uint8_t>(Gpa{chain[i].buffer + at_byte}));
            }
        }
        return got;
    }
    bool succeeds(unsigned port, std::array<uint8_t, 8> setup, const std::vector<uint8_t>& data = {}) {
        return control(port, setup, data).has_value();
    }
    /// Reset, address, configuration: afterwards the device is in use.
    void configure(unsigned port) {
        reset_port(port);
        const auto address = static_cast<uint8_t>(port + 5);
        REQUIRE(succeeds(port, {0, 5, address, 0, 0, 0, 0, 0}));
        addresses[port] = address;
        REQUIRE(succeeds(port, {0, 9, 1, 0, 0, 0, 0, 0}));
    }
    /// One token to the interrupt endpoint; the report, or nothing for a NAK.
    std::optional<std::vector<uint8_t>> poll(unsigned port) {
        put({{.address = addresses[port], .endpoint = 1, .length = 8, .buffer = buffer + 0x200}}, port);
        wait_ms(9);
        const uint32_t said = status();
        put({});
        if (said & uhci::ACTIVE) return std::nullopt;
        std::vector<uint8_t> report(length(said));
        memory.read(Gpa{buffer + 0x200}, std::as_writable_bytes(std::span(report)));
        return report;
    }

    Wire& wire = new_wire();
    std::array<uint8_t, uhci::port_count> addresses{};
    std::vector<bool> low_speed;
};

}  // namespace viv
