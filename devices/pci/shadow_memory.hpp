// Models: the RAM of a PC behind A0000h-FFFFFh, and the 82441FX's choice of what is seen there
// Not modelled: the cache attribute; SMRAM that only system management mode sees
// Ignored bits: the cache enable bits of PAM
// Reference: Intel 82441FX (290549), 3.2.18 "PAM - Programmable Attribute Map Registers", 3.2.20 "SMRAM"
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "vmm/core/bus.hpp"
#include "vmm/core/guest_memory.hpp"
#include "vmm/core/result.hpp"

namespace viv {

/// Shows ROM or RAM, segment by segment. It takes over the ROMs that are there when it is made. As a bus device it is
/// the 256 KiB from C0000h on and gets what memory does not serve: writes to what reads as ROM.
class ShadowMemory final : public BusDevice {
  public:
    static constexpr uint64_t base = 0xC0000;
    static constexpr uint64_t size = 0x40000;
    /// C0000h-EFFFFh in steps of 16 KiB, then F0000h-FFFFFh.
    static constexpr unsigned segment_count = 13;

    struct Attributes {
        bool read_ram = false;
        bool write_ram = false;
        bool operator==(const Attributes&) const = default;
    };
    struct View {
        std::array<Attributes, segment_count> segments{};
        bool smram_open = false;  // RAM instead of the VGA at A0000h
        bool operator==(const View&) const = default;
    };

    /// Errors: the host is out of memory; what is there is not ROM that can be hidden.
    static Result<std::unique_ptr<ShadowMemory>> make(GuestMemory& memory);

    void set(const View& view);

    uint64_t read(Access access) override;
    void write(Access access, uint64_t value) override;

  private:
    struct Piece {
        uint64_t base = 0;
        uint64_t size = 0;
        GuestMemory::Store store;
        uint64_t offset = 0;
        GuestMemory::Kind kind = GuestMemory::Kind::rom;
        [[nodiscard]] bool same(const Piece& other) const;
    };
    ShadowMemory(GuestMemory& memory, GuestMemory::Store ram) : memory_(memory), ram_(ram) {}
    [[nodiscard]] std::vector<Piece> pieces(const View& view) const;

    GuestMemory& memory_;
    GuestMemory::Store ram_;  // from A0000h on
    std::vector<Piece> roms_;
    std::vector<Piece> shown_;
    View view_;
};

}  // namespace viv
