// Models: a flash chip on an 8-bit bus with blocks of 4 KiB and Intel's command set: read array, status, identifier and
//   query, byte and buffered program, block erase, clear status. It keeps the variables of a UEFI firmware.
// Not modelled: block locks (accepted, without effect), suspend, the time that programming takes.
// Ignored bits: the address of commands that do not need one.
// Reference: Intel 28F640J3 (290667), chapter 11 "Device commands"; JEDEC JESD68.01 (CFI).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/storage/image/disk_image.hpp"
#include "vmm/core/bus.hpp"
#include "vmm/core/device.hpp"
#include "vmm/core/device_context.hpp"
#include "vmm/core/guest_memory.hpp"

namespace viv {

/// Where the ROM image of another firmware begins: its flash ends there. Service, provided by the machine.
struct FirmwareRom {
    uint64_t base = 0;
};

struct CfiFlashState {
    /// What a read shows, or what the next write is taken as.
    enum class Mode : uint8_t {
        array,
        status,
        identifier,
        query,
        program,         // the byte to program
        erase,           // the confirmation
        lock,            // its second cycle
        buffer_count,    // how many bytes follow, less one
        buffer_data,     // one of these
        buffer_confirm,  // the confirmation
    };
    struct BufferedByte {
        uint32_t offset = 0;
        uint8_t value = 0;
        static void fields(auto& self, auto&& visit) {
            visit("offset", self.offset);
            visit("value", self.value);
        }
        bool operator==(const BufferedByte&) const = default;
    };
    Mode mode = Mode::array;
    uint8_t status = 0x80;
    uint8_t expected = 0;  // bytes of the buffer that are still to come
    std::vector<BufferedByte> buffer;
    static void fields(auto& self, auto&& visit) {
        visit("mode", self.mode);
        visit("status", self.status);
        visit("expected", self.expected);
        visit("buffer", self.buffer);
    }
    bool operator==(const CfiFlashState&) const = default;
};

class CfiFlash final : public StatefulDevice<CfiFlashState>, public ByteDevice {
  public:
    static constexpr uint64_t block_size = 4096;
    static constexpr size_t buffer_size = 32;

    /// `contents` is as large as the image and holds what is in it.
    CfiFlash(GuestMemory& memory, Gpa base, GuestMemory::Store contents, std::unique_ptr<DiskImage> image);
    ~CfiFlash() override;

    void reset(ResetKind kind) override;
    uint8_t read8(uint64_t offset) override;
    void write8(uint64_t offset, uint8_t value) override;
    [[nodiscard]] uint64_t size() const { return contents_.size; }

  protected:
    void before_save() override { write_out(); }
    Result<void> validate(const CfiFlashState& staged) const override;
    void after_load() override { show(); }

  private:
    using Mode = CfiFlashState::Mode;
    void command(uint64_t offset, uint8_t value);
    void program(uint64_t offset, uint8_t value);
    void erase(uint64_t offset);
    void finish(uint8_t errors);
    void write_out();
    void set_mode(Mode mode);
    void show();

    GuestMemory& memory_;
    Gpa base_;
    GuestMemory::Store contents_;
    std::unique_ptr<DiskImage> image_;
    std::optional<uint64_t> changed_sector_;  // of the image: programmed and not yet written
    bool shown_ = false;
};

/// Node cfi-flash: viv,image is its content, a multiple of 4 KiB; viv,read-only, viv,snapshot as of drives. It lies
/// right below the firmware's ROM image.
Result<std::unique_ptr<Device>> make_cfi_flash(DeviceContext& context);

}  // namespace viv
