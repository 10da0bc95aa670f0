// Models: QEMU's firmware configuration device (fw_cfg) at I/O ports: selector, data register, DMA interface, and the
// file directory in the order of names.
// Not modelled: writable items: a DMA write ends with the error bit, writes to the data register are dropped (as in
// QEMU since 2.4).
// Ignored bits: selector D14 (the write channel of old).
// Reference: QEMU, docs/specs/fw_cfg.rst.
#include "devices/system/fw_cfg.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <span>
#include <utility>

namespace viv {
namespace {

// Offsets from port 510h.
enum class Port : uint64_t {
    Selector = 0,        // -w  16 bits
    Data = 1,            // r-  8 bits
    DmaAddressHigh = 4,  // rw  32 bits, big-endian; reads "QEMU"
    DmaAddressLow = 8,   // rw  32 bits, big-endian, starts the transfer; reads " CFG"
};

constexpr uint32_t DMA_CTL_ERROR = 0x01;
constexpr uint32_t DMA_CTL_READ = 0x02;
constexpr uint32_t DMA_CTL_SKIP = 0x04;
constexpr uint32_t DMA_CTL_SELECT = 0x08;
constexpr uint32_t DMA_CTL_WRITE = 0x10;

constexpr uint32_t ID_TRADITIONAL = 0x01;
constexpr uint32_t ID_DMA = 0x02;
constexpr uint16_t WRITE_CHANNEL = 0x4000;
constexpr uint16_t ARCH_LOCAL = 0x8000;
constexpr size_t name_size = 56;  // with its NUL
/// Zeros that one transfer may write after the end of its item, so that a guest cannot hold the machine with one OUT.
constexpr uint64_t fill_limit = 16 << 20;
constexpr std::string_view dma_signature = "QEMU CFG";

struct State {
    uint16_t key = 0;
    uint32_t offset = 0;
    uint32_t dma_address_high = 0;
    static void fields(auto& self, auto&& visit) {
        visit("key", self.key);
        visit("offset", self.offset);
        visit("dma_address_high", self.dma_address_high);
    }
    bool operator==(const State&) const = default;
};

void append_big_endian(std::vector<std::byte>& out, uint32_t value, unsigned size) {
    for (unsigned shift = size * 8; shift > 0; shift -= 8) out.push_back(static_cast<std::byte>(value >> (shift - 8)));
}

std::vector<std::byte> little_endian(uint32_t value) {
    std::vector<std::byte> bytes(4);
    std::memcpy(bytes.data(), &value, 4);
    return bytes;
}

std::vector<std::byte> text(std::string_view characters) {
    const auto bytes = std::as_bytes(std::span(characters));
    return {bytes.begin(), bytes.end()};
}

class FwCfgDevice final : public StatefulDevice<State>, public BusDevice, public FwCfg {
  public:
    explicit FwCfgDevice(GuestMemory& memory) : memory_(memory) {
        items_[std::to_underlying(FwCfgKey::signature)] = text("QEMU");
        items_[std::to_underlying(FwCfgKey::id)] = little_endian(ID_TRADITIONAL | ID_DMA);
        build_directory();
    }

    void add_file(std::string name, std::vector<std::byte> content) override {
        VIV_ASSERT(!name.empty() && name.size() < name_size);
        VIV_ASSERT(content.size() <= UINT32_MAX);
        files_[std::move(name)] = {std::move(content), {}};
        VIV_ASSERT(files_.size() < WRITE_CHANNEL - std::to_underlying(FwCfgKey::file_first));
        build_directory();
    }
    void add_live_file(std::string name, std::move_only_function<std::vector<std::byte>()> make) override {
        auto content = make();
        add_file(name, std::move(content));
        files_[std::move(name)].make = std::move(make);
    }
    void add_item(FwCfgKey key, std::vector<std::byte> content) override {
        VIV_ASSERT(key != FwCfgKey::signature && key != FwCfgKey::id && key != FwCfgKey::file_directory);
        VIV_ASSERT(key < FwCfgKey::file_first || std::to_underlying(key) >= ARCH_LOCAL);
        items_[std::to_underlying(key)] = std::move(content);
    }
    [[nodiscard]] const std::vector<std::byte>* file(std::string_view name) const override {
        const auto at = files_.find(name);
        return at == files_.end() ? nullptr : &at->second.content;
    }

    void reset(ResetKind /*kind*/) override { state_ = State{}; }

    uint64_t read(Access access) override {
        if (static_cast<Port>(access.offset) == Port::Data && access.size == 1) {
            uint8_t value = 0;
            take(std::as_writable_bytes(std::span(&value, 1)));
            return value;
        }
        uint64_t value = ~uint64_t{0};
        if (access.offset >= std::to_underlying(Port::DmaAddressHigh)) {
            const size_t first = access.offset - std::to_underlying(Port::DmaAddressHigh);
            std::memcpy(&value, dma_signature.data() + first,
                        std::min<size_t>(access.size, dma_signature.size() - first));
        }
        return value;
    }

    void read_block(Access access, std::span<std::byte> data) override {
        if (static_cast<Port>(access.offset) != Port::Data || access.size != 1) {
            return BusDevice::read_block(access, data);
        }
        take(data);
    }

    void write(Access access, uint64_t value) override {
        switch (static_cast<Port>(access.offset)) {
            case Port::Selector:
                if (access.size == 2) select(static_cast<uint16_t>(value));
                break;
            case Port::Data: break;
            case Port::DmaAddressHigh:
                if (access.size == 4) state_.dma_address_high = std::byteswap(static_cast<uint32_t>(value));
                if (access.size == 8) transfer({std::byteswap(value)});
                break;
            case Port::DmaAddressLow:
                if (access.size == 4) {
                    const uint64_t high = std::exchange(state_.dma_address_high, 0);
                    transfer({high << 32 | std::byteswap(static_cast<uint32_t>(value))});
                }
                break;
        }
    }

  protected:
    void after_load() override {}

  private:
    struct File {
        std::vector<std::byte> content;
        std::move_only_function<std::vector<std::byte>()> make;  // empty: it stays as it is
    };

    void build_directory() {
        std::vector<std::byte>& directory = items_[std::to_underlying(FwCfgKey::file_directory)];
        directory.clear();
        append_big_endian(directory, static_cast<uint32_t>(files_.size()), 4);
        auto key = std::to_underlying(FwCfgKey::file_first);
        for (const auto& [name, file] : files_) {
            append_big_endian(directory, static_cast<uint32_t>(file.content.size()), 4);
            append_big_endian(directory, key++, 2);
            append_big_endian(directory, 0, 2);
            const auto characters = text(name);
            directory.insert(directory.end(), characters.begin(), characters.end());
            directory.resize(directory.size() + name_size - name.size());
        }
    }

    void select(uint16_t key) {
        state_.key = key & static_cast<uint16_t>(~WRITE_CHANNEL);
        state_.offset = 0;
        File* file = selected_file();
        if (!file || !file->make) return;
        auto content = file->make();
        VIV_ASSERT(content.size() == file->content.size());
        file->content = std::move(content);
    }

    [[nodiscard]] File* selected_file() {
        const auto first = std::to_underlying(FwCfgKey::file_first);
        if (state_.key < first || state_.key >= first + files_.size()) return nullptr;
        return &std::next(files_.begin(), state_.key - first)->second;
    }

    /// What is left of the selected item; nothing of a key that nobody has.
    [[nodiscard]] std::span<const std::byte> rest() {
        const std::vector<std::byte>* item = nullptr;
        if (const File* file = selected_file()) {
            item = &file->content;
        } else if (const auto at = items_.find(state_.key); at != items_.end()) {
            item = &at->second;
        }
        if (!item || state_.offset >= item->size()) return {};
        return std::span(*item).subspan(state_.offset);
    }

    void skip(uint64_t bytes) {
        state_.offset = static_cast<uint32_t>(std::min<uint64_t>(UINT32_MAX, state_.offset + bytes));
    }

    /// The next bytes of the selected item, zeros after its end.
    void take(std::span<std::byte> out) {
        const auto data = rest();
        const size_t size = std::min(data.size(), out.size());
        std::copy_n(data.begin(), size, out.begin());
        std::ranges::fill(out.subspan(size), std::byte{0});
        skip(out.size());
    }

    void transfer(Gpa control_block) {
        std::array<uint32_t, 4> block{};  // control, length, address high, address low; big-endian
        if (!memory_.read(control_block, std::as_writable_bytes(std::span(block)))) return;  // nowhere to tell it
        const uint32_t control = std::byteswap(block[0]);
        const uint32_t length = std::byteswap(block[1]);
        const Gpa address{uint64_t{std::byteswap(block[2])} << 32 | std::byteswap(block[3])};
        if (control & DMA_CTL_SELECT) select(static_cast<uint16_t>(control >> 16));
        bool done = true;
        if (control & DMA_CTL_READ) {
            done = read_into(address, length);
        } else if (control & DMA_CTL_WRITE) {
            done = false;
        } else if (control & DMA_CTL_SKIP) {
            skip(length);
        }
        memory_.store(control_block, std::byteswap(done ? 0 : DMA_CTL_ERROR));
    }

    bool read_into(Gpa address, uint32_t length) {
        const auto data = rest();
        const uint64_t copied = std::min<uint64_t>(data.size(), length);
        if (length - copied > fill_limit || address.value > UINT64_MAX - length) return false;
        skip(length);
        if (!memory_.write(address, data.first(copied))) return false;
        static constexpr std::array<std::byte, 4096> zeros{};
        for (uint64_t at = copied; at < length;) {
            const uint64_t step = std::min<uint64_t>(zeros.size(), length - at);
            if (!memory_.write(address + at, std::span(zeros).first(step))) return false;
            at += step;
        }
        return true;
    }

    GuestMemory& memory_;
    std::map<uint16_t, std::vector<std::byte>> items_;
    std::map<std::string, File, std::less<>> files_;  // in the order of the directory
};

}  // namespace

Result<std::unique_ptr<Device>> make_fw_cfg(DeviceContext& context) {
    auto device = std::make_unique<FwCfgDevice>(context.memory);
    TRY(context.map(0, *device));
    context.services.provide<FwCfg>(*device);
    return device;
}

}  // namespace viv
