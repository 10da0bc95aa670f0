#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/pci/pci_registers.hpp"
#include "devices/pci/pci_rig_test.hpp"
#include "devices/storage/image/memory_image_test.hpp"
#include "devices/storage/nvme.hpp"

namespace viv {

/// The medium of the controller that make_nvme_with_medium() makes.
struct NvmeMedium {
    std::unique_ptr<DiskQueue> queue;
};

inline Result<std::unique_ptr<Device>> make_nvme_with_medium(DeviceContext& context) {
    NvmeMedium& medium = *TRY(context.need<NvmeMedium>("a medium for a test"));
    auto controller =
        std::make_unique<Nvme>(std::make_unique<DiskDrive>(std::move(medium.queue), "VIVNVME"), context.clock);
    TRY(controller->pci().attach(context));
    return controller;
}

/// A controller with a disk of 4000 blocks, 4 MiB of RAM, and a driver.
class NvmeBoard : public PciBoard {
  public:
    struct Message {
        uint32_t result = 0;
        uint16_t queue = 0;
        uint16_t head = 0;
        uint16_t identifier = 0;
        uint16_t status = 0;
    };
    using Words = std::array<uint32_t, 16>;
    struct Messages final : MsiSink {
        void send(uint64_t address, uint32_t data) override { sent.emplace_back(address, data); }
        std::vector<std::pair<uint64_t, uint32_t>> sent;
    };

    static constexpr uint64_t base = 0xE0000000, vectors = 0xE1000000;
    static constexpr uint64_t admin = 0x10000, admin_done = 0x11000;
    static constexpr uint64_t io = 0x20000, io_done = 0x40000;  // of queue n, 64 KiB or 16 KiB times n - 1 further
    static constexpr uint64_t buffer = 0x100000, list = 0x80000;
    static constexpr uint32_t entries = 16;
    static constexpr PciAddress at{0, 4, 0};

    explicit NvmeBoard(ImageAccess access = ImageAccess::writable)
        : NvmeBoard([this, access] {
              auto made = std::make_unique<MemoryImage>(numbered_sectors(4000), access);
              image = made.get();
              return std::make_unique<DiskQueue>(std::move(made));
          }) {}
    /// `make_queue` is called when the board is there.
    explicit NvmeBoard(const std::function<std::unique_ptr<DiskQueue>()>& make_queue) {
        medium_.queue = make_queue();
        services.provide(medium_);
        if (!memory.add(Gpa{0}, 0x400000, GuestMemory::Kind::ram, "RAM")) FAIL("no RAM");
        make_function(make_nvme_with_medium, at.device, at.function);
        set_config(at, pci::BAR0, 4, static_cast<uint32_t>(base));
        set_config(at, pci::BAR0 + 16, 4, static_cast<uint32_t>(vectors));
        set_config(at, pci::COMMAND, 2, pci::MEMORY_SPACE | pci::BUS_MASTER);
        bus().pirq(PciBus::pirq_of(at, 1)).connect(wire, 0);
        bus().connect(messages);
    }

    uint32_t reg(uint64_t offset) { return static_cast<uint32_t>(memory_bus.read(base + offset, 4)); }
    void set(uint64_t offset, uint32_t value) { memory_bus.write(base + offset, 4, value); }
    void ring_submissions(unsigned queue, uint32_t tail) { set(0x1000 + 8 * queue, tail); }
    void ring_completions(unsigned queue, uint32_t head) { set(0x1004 + 8 * queue, head); }

    /// Admin queues of 16 entries, and the controller on.
    void start() {
        set(nvme::AQA, (entries - 1) << 16 | (entries - 1));
        set(nvme::ASQ, static_cast<uint32_t>(admin));
        set(nvme::ACQ, static_cast<uint32_t>(admin_done));
        queues = {};
        set(nvme::CC, nvme::entry_sizes | nvme::CC_EN);
    }
    /// Queue pair n with 16 entries and the vector of its number.
    void start_queue(uint16_t queue, uint16_t vector = 0) {
        REQUIRE(admin_command({.opcode = 5,
                               .prp1 = done_of(queue),
                               .w10 = (entries - 1) << 16 | queue,
                               .w11 = uint32_t{vector} << 16 | 3}) == 0);
        REQUIRE(admin_command({.opcode = 1,
                               .prp1 = commands_of(queue),
                               .w10 = (entries - 1) << 16 | queue,
                               .w11 = uint32_t{queue} << 16 | 1}) == 0);
    }
    void enable_vectors() {
        const auto capability = static_cast<uint8_t>(config(at, pci::CAPABILITIES));
        for (uint32_t i = 0; i < nvme::queue_count; ++i) {
            memory_bus.write(vectors + 16 * i, 4, 0xFEE00000);
            memory_bus.write(vectors + 16 * i + 8, 4, 0x40 + i);
            memory_bus.write(vectors + 16 * i + 12, 4, 0);
        }
        set_config(at, capability + 2, 2, 0x8000);
    }

    struct Command {
        uint8_t opcode = 0;
        uint32_t name_space = 0;
        uint64_t prp1 = buffer;
        uint64_t prp2 = 0;
        uint32_t w10 = 0, w11 = 0, w12 = 0, w13 = 0;
        uint32_t flags = 0;
    };
    static uint64_t commands_of(unsigned queue) { return queue == 0 ? admin : io + (queue - 1) * 0x1000; }
    static uint64_t done_of(unsigned queue) { return queue == 0 ? admin_done : io_done + (queue - 1) * 0x1000; }

    /// Puts a command into a queue without telling; its identifier.
    uint16_t put(unsigned queue, const Command& command) {
        Place& place = queues[queue];
        const uint16_t identifier = next_identifier++;
        const Words words{command.opcode | command.flags | uint32_t{identifier} << 16,
                          command.name_space,
                          0,
                          0,
                          0,
                          0,
                          static_cast<uint32_t>(command.prp1),
                          static_cast<uint32_t>(command.prp1 >> 32),
                          static_cast<uint32_t>(command.prp2),
                          static_cast<uint32_t>(command.prp2 >> 32),
                          command.w10,
                          command.w11,
                          command.w12,
                          command.w13};
        memory.write(Gpa{commands_of(queue) + place.tail * 64}, std::as_bytes(std::span(words)));
        place.tail = (place.tail + 1) % entries;
        return identifier;
    }
    void tell(unsigned queue) { ring_submissions(queue, queues[queue].tail); }
    /// The next completion of a queue, if there is one; the host takes it.
    std::optional<Message> take(unsigned queue) {
        Place& place = queues[queue];
        std::array<uint32_t, 4> words{};
        memory.read(Gpa{done_of(queue) + place.head * 16}, std::as_writable_bytes(std::span(words)));
        if ((words[3] >> 16 & 1) != (place.phase ? 1u : 0u)) return std::nullopt;
        place.head = (place.head + 1) % entries;
        if (place.head == 0) place.phase = !place.phase;
        ring_completions(queue, place.head);
        return Message{words[0], static_cast<uint16_t>(words[2] >> 16), static_cast<uint16_t>(words[2]),
                       static_cast<uint16_t>(words[3]), static_cast<uint16_t>(words[3] >> 17)};
    }
    /// Runs a command; its status. `last` has the rest.
    uint16_t run(unsigned queue, const Command& command) {
        const uint16_t identifier = put(queue, command);
        tell(queue);
        const auto message = take(queue);
        REQUIRE(message);
        CHECK(message->identifier == identifier);
        CHECK(message->queue == queue);
        CHECK(message->head == queues[queue].tail);
        last = *message;
        return message->status;
    }
    uint16_t admin_command(const Command& command) { return run(0, command); }
    /// READ, WRITE or COMPARE of `count` blocks.
    static Command transfer(uint8_t opcode, uint64_t block, uint32_t count, uint64_t prp1, uint64_t prp2 = 0) {
        return {.opcode = opcode,
                .name_space = 1,
                .prp1 = prp1,
                .prp2 = prp2,
                .w10 = static_cast<uint32_t>(block),
                .w11 = static_cast<uint32_t>(block >> 32),
                .w12 = count - 1};
    }

    std::vector<uint8_t> bytes_at(uint64_t address, size_t size) {
        std::vector<uint8_t> got(size);
        memory.read(Gpa{address}, std::as_writable_bytes(std::span(got)));
        return got;
    }
    uint64_t number_at(uint64_t address, size_t size = 4) {
        uint64_t value = 0;
        const auto bytes = bytes_at(address, size);
        for (size_t i = 0; i < size; ++i) value |= uint64_t{bytes[i]} << (8 * i);
        return value;
    }
    bool has_blocks(uint64_t address, size_t first, size_t bytes) {
        return std::memcmp(bytes_at(address, bytes).data(), image->bytes.data() + first * 512, bytes) == 0;
    }

    struct Place {
        uint32_t tail = 0;
        uint32_t head = 0;
        bool phase = true;
    };
    std::array<Place, nvme::queue_count> queues{};
    uint16_t next_identifier = 0x100;
    Message last;
    MemoryImage* image = nullptr;  // if the first constructor made it
    Wire& wire = new_wire();
    Messages messages;

  private:
    NvmeMedium medium_;
};

}  // namespace viv
