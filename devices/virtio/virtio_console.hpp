// Models: a virtio console with up to eight ports, each a console or a named stream; size and its changes, emergency
//   write
// Not modelled: taking ports away while the machine runs; closing a port when nobody reads it
// Ignored bits: values of control messages that only say that they came
// Reference: Virtual I/O Device (VIRTIO) 1.2, section 5.3
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/serial/char_backend.hpp"
#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

struct VirtioConsolePortState {
    uint8_t owed = 0;  // a bit for each control message that the driver is to get
    bool open = false;
    uint64_t sent = 0;  // bytes of the driver's next buffer that are out already
    static void fields(auto& self, auto&& visit) {
        visit("owed", self.owed);
        visit("open", self.open);
        visit("sent", self.sent);
    }
    bool operator==(const VirtioConsolePortState&) const = default;
};

struct VirtioConsoleState {
    uint16_t columns = 0;
    uint16_t rows = 0;
    std::vector<VirtioConsolePortState> ports;
    static void fields(auto& self, auto&& visit) {
        visit("columns", self.columns);
        visit("rows", self.rows);
        visit("ports", self.ports);
    }
    bool operator==(const VirtioConsoleState&) const = default;
};

class VirtioConsole final : public StatefulDevice<VirtioConsoleState>, public VirtioFunction {
  public:
    static constexpr unsigned most_ports = 8;

    struct Port {
        std::unique_ptr<CharBackend> backend;
        std::string name;  // empty: a console
    };
    struct Size {
        uint16_t columns = 0;  // 0: not known
        uint16_t rows = 0;
    };
    /// One to eight ports.
    VirtioConsole(std::vector<Port> ports, Size size);

    /// The terminal of a person has another size from now on.
    void resize(Size size);

    [[nodiscard]] const VirtioIdentity& identity() const override { return identity_; }
    [[nodiscard]] uint64_t features() const override;
    [[nodiscard]] std::vector<uint8_t> configuration() const override;
    void write_configuration(uint64_t offset, uint8_t value) override;
    void notified(unsigned queue) override;
    void driver_reset() override;
    [[nodiscard]] Device& device() override { return *this; }

    void reset(ResetKind kind) override;

  protected:
    Result<void> validate(const VirtioConsoleState& staged) const override;
    void after_load() override {}

  private:
    /// Control messages to the driver, in the order in which a port's are sent; bit n is message n.
    enum class Owed : uint8_t { add, console, name, open, resize };
    static constexpr unsigned control_receive = 2, control_send = 3;

    static unsigned receive_queue(size_t port) { return port == 0 ? 0 : static_cast<unsigned>(2 + 2 * port); }
    void owe(size_t port, Owed message);
    void receive(size_t port);
    void send(size_t port);
    std::optional<uint32_t> send_buffer(size_t port, VirtqueueChain& chain, GuestMemory& memory);
    std::optional<uint32_t> take_message(VirtqueueChain& chain, GuestMemory& memory);
    void tell_owed();
    [[nodiscard]] bool has_messages() const;

    std::vector<Port> ports_;
    Size size_;
    VirtioIdentity identity_;
};

/// viv,function = "console": viv,chardev, viv,name, viv,columns, viv,rows; or children `port@N` with viv,chardev and
/// viv,name each. Provides VirtioConsole.
Result<std::unique_ptr<VirtioFunction>> make_virtio_console(DeviceContext& context);

}  // namespace viv
