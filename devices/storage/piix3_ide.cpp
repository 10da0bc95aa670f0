#include "devices/storage/piix3_ide.hpp"

#include <algorithm>
#include <span>

namespace viv {
namespace {

constexpr PciIdentity identity{.vendor = 0x8086, .device = 0x7010, .class_code = 0x010180};

constexpr uint8_t IDETIM = 0x40, SIDETIM = 0x44;

enum Register : uint8_t { BMICX = 0, BMISX = 2, BMIDTPX = 4 };
constexpr uint8_t SSBM = 0x01;   // BMICX: a rise starts, 0 stops
constexpr uint8_t RWCON = 0x08;  // to memory
constexpr uint8_t BMIDEA = 0x01, ERROR = 0x02, INTERRUPT = 0x04, DRIVES_CAPABLE = 0x60;

constexpr uint32_t table_span = 0x10000;  // a table does not cross a multiple of it
constexpr uint32_t descriptor_size = 8;
constexpr uint32_t end_of_table = 0x80000000;
constexpr uint32_t piece_size = 0x10000;

void stop(IdeMasterState& master, uint8_t reason = 0) {
    master.status = static_cast<uint8_t>((master.status & ~BMIDEA) | reason);
}

}  // namespace

Piix3Ide::Piix3Ide(std::array<IdeChannel*, 2> channels) : channels_(channels), pci_(identity, state_.pci) {
    pci_.add_io_bar(4, 16, *this);
    pci_.add_register(IDETIM, 4, 0, 0xF3FFF3FF);
    pci_.add_register(SIDETIM, 1, 0, 0xFF);
    // A transfer that waited for its permission goes on.
    pci_.on_config_write([this](unsigned, unsigned) {
        for (unsigned i = 0; i < 2; ++i) run(i);
    });
    for (unsigned i = 0; i < 2; ++i) {
        if (channels_[i]) channels_[i]->connect(&ears_[i]);
    }
    reset(ResetKind::power_on);
}

Piix3Ide::~Piix3Ide() {
    for (IdeChannel* channel : channels_) {
        if (channel) channel->connect(nullptr);
    }
}

void Piix3Ide::reset(ResetKind /*kind*/) {
    state_ = {};
    pci_.reset();
}

void Piix3Ide::Ear::interrupt_rose() {
    owner_.state_.masters[index_].status |= INTERRUPT;
}

uint8_t Piix3Ide::read8(uint64_t offset) {
    const IdeMasterState& master = state_.masters[offset >> 3 & 1];
    switch (offset & 7) {
        case BMICX: return master.command;
        case BMISX: return master.status;
        case BMIDTPX:
        case BMIDTPX + 1:
        case BMIDTPX + 2:
        case BMIDTPX + 3: return static_cast<uint8_t>(master.table >> (8 * (offset & 3)));
        default: return 0;
    }
}

void Piix3Ide::write8(uint64_t offset, uint8_t value) {
    const unsigned index = offset >> 3 & 1;
    IdeMasterState& master = state_.masters[index];
    switch (offset & 7) {
        case BMICX: return write_command(index, value);
        case BMISX:
            master.status = static_cast<uint8_t>(master.status & ~(value & (ERROR | INTERRUPT)));
            master.status = static_cast<uint8_t>((master.status & ~DRIVES_CAPABLE) | (value & DRIVES_CAPABLE));
            return;
        case BMIDTPX:
        case BMIDTPX + 1:
        case BMIDTPX + 2:
        case BMIDTPX + 3: {
            const unsigned shift = 8 * (offset & 3);
            master.table = (master.table & ~(uint32_t{0xFF} << shift)) | uint32_t{value} << shift;
            master.table &= ~uint32_t{3};
            return;
        }
        default: return;
    }
}

void Piix3Ide::write_command(unsigned index, uint8_t value) {
    IdeMasterState& master = state_.masters[index];
    const bool starts = (value & SSBM) && !(master.command & SSBM);
    master.command = value & (SSBM | RWCON);
    if (!(value & SSBM)) stop(master);
    if (starts) {
        master.status |= BMIDEA;
        master.next = master.left = 0;
        master.is_last = false;
        run(index);
    }
}

bool Piix3Ide::fetch(IdeMasterState& master, GuestMemory& memory) {
    if (master.is_last) {
        stop(master);
        return false;
    }
    std::array<uint32_t, 2> descriptor{};
    const uint32_t offset = master.table % table_span + master.next;
    const Gpa at{uint64_t{master.table} + master.next};
    if (offset + descriptor_size > table_span || !memory.read(at, std::as_writable_bytes(std::span(descriptor)))) {
        stop(master, ERROR);
        return false;
    }
    master.next += descriptor_size;
    master.base = descriptor[0] & ~uint32_t{1};
    master.left = descriptor[1] & 0xFFFE;
    if (master.left == 0) master.left = 0x10000;
    master.is_last = descriptor[1] & end_of_table;
    return true;
}

/// Moves what drive and descriptor have in common; false, and the engine has stopped, when memory is not there.
bool Piix3Ide::move(IdeMasterState& master, IdeChannel& channel, GuestMemory& memory) {
    scratch_.resize(piece_size);
    const auto piece = std::span(scratch_).first(std::min(master.left, piece_size));
    const Gpa at{master.base};
    size_t moved = 0;
    bool good = true;
    if (master.command & RWCON) {
        moved = channel.read_dma(piece);
        good = memory.write(at, piece.first(moved));
    } else {
        good = memory.read(at, piece);
        if (good) moved = channel.write_dma(piece);
    }
    master.base += static_cast<uint32_t>(moved);
    master.left -= static_cast<uint32_t>(moved);
    if (!good) stop(master, ERROR);
    return good;
}

/// Moves data while the drive asks for it and descriptors last.
void Piix3Ide::run(unsigned index) {
    IdeMasterState& master = state_.masters[index];
    IdeChannel* channel = channels_[index];
    GuestMemory* memory = pci_.dma();
    if (!channel || !memory) return;
    const auto wanted = master.command & RWCON ? AtaDevice::DmaRequest::to_memory : AtaDevice::DmaRequest::from_memory;
    while ((master.status & BMIDEA) && channel->dma_request() == wanted) {
        if (master.left == 0 && !fetch(master, *memory)) return;
        if (!move(master, *channel, *memory)) return;
    }
    // The drive had as much as the table: the engine is done, too.
    if ((master.status & BMIDEA) && master.left == 0 && master.is_last) stop(master);
}

Result<void> Piix3Ide::validate(const Piix3IdeState& staged) const {
    for (const IdeMasterState& master : staged.masters) {
        const bool good = !(master.command & ~(SSBM | RWCON)) &&
                          !(master.status & ~(BMIDEA | ERROR | INTERRUPT | DRIVES_CAPABLE)) && !(master.table & 3) &&
                          master.next % descriptor_size == 0 && master.next <= table_span && !(master.base & 1) &&
                          !(master.left & 1) && master.left <= 0x10000;
        if (!good) return fail("the saved state of the IDE bus master cannot be");
    }
    return pci_.validate(staged.pci);
}

Result<std::unique_ptr<Device>> make_piix3_ide(DeviceContext& context) {
    auto ide = std::make_unique<Piix3Ide>(
        std::array{context.services.find<IdeChannel>("primary"), context.services.find<IdeChannel>("secondary")});
    TRY(ide->pci().attach(context));
    return ide;
}

}  // namespace viv
