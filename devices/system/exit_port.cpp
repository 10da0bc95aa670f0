// Models: a port for test guests: a byte written to it ends the run with that byte as the exit code.
// Not modelled: nothing.
// Ignored bits: none.
// Reference: docs/devices/system.md.
#include "devices/system/exit_port.hpp"

namespace viv {
namespace {

/// There is nothing to keep.
struct State {
    static void fields(auto& /*self*/, auto&& /*visit*/) {}
    bool operator==(const State&) const = default;
};

class ExitPort final : public StatefulDevice<State>, public ByteDevice {
  public:
    ExitPort(SystemControl& system, bool odd_codes) : system_(system), odd_codes_(odd_codes) {}
    void reset(ResetKind /*kind*/) override {}
    uint8_t read8(uint64_t /*offset*/) override { return 0xFF; }
    void write8(uint64_t offset, uint8_t value) override {
        // Of a wider write the first byte is the code, wherever the port's range ends.
        if (offset == 0) system_.request_exit(static_cast<uint8_t>(odd_codes_ ? value * 2 + 1 : value));
    }

  protected:
    void after_load() override {}

  private:
    SystemControl& system_;
    bool odd_codes_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_exit_port(DeviceContext& context) {
    auto port = std::make_unique<ExitPort>(context.system, context.node.has("viv,odd-codes"));
    TRY(context.map(0, *port));
    return port;
}

}  // namespace viv
