// Models: the debug console of Bochs and QEMU that SeaBIOS and OVMF write their log to: a port that takes characters,
// and reads E9h so that firmware knows it is there.
// Not modelled: flow control; what a slow reader of the host has no room for is lost.
// Ignored bits: none.
// Reference: QEMU, docs/specs (isa-debugcon); SeaBIOS, docs/Debugging.md.
#include "devices/system/debug_console.hpp"

#include <utility>

#include "devices/serial/char_backend.hpp"

namespace viv {
namespace {

constexpr uint8_t present = 0xE9;

/// There is nothing to keep.
struct State {
    static void fields(auto& /*self*/, auto&& /*visit*/) {}
    bool operator==(const State&) const = default;
};

class DebugConsole final : public StatefulDevice<State>, public ByteDevice {
  public:
    explicit DebugConsole(std::unique_ptr<CharBackend> backend) : backend_(std::move(backend)) {}
    void reset(ResetKind /*kind*/) override {}
    uint8_t read8(uint64_t /*offset*/) override { return present; }
    void write8(uint64_t /*offset*/, uint8_t value) override { static_cast<void>(backend_->write(value)); }

  protected:
    void after_load() override {}

  private:
    std::unique_ptr<CharBackend> backend_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_debug_console(DeviceContext& context) {
    auto backend = open_char_backend(context.node.string("viv,chardev").value_or("null"), context.loop);
    if (!backend) return add_context(backend.error(), context.path);
    auto console = std::make_unique<DebugConsole>(std::move(*backend));
    TRY(context.map(0, *console));
    return console;
}

}  // namespace viv
