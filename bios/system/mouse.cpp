// INT 15h AH=C2h and IRQ 12: the PS/2 pointing device behind the 8042.
// Reference: IBM PS/2 and PC BIOS Interface Technical Reference, "Interrupt 15H", (AH)=C2H; IBM PS/2 mouse commands.

#include "bios/system/mouse.hpp"

#include "bios/system/services.hpp"

namespace viv::rom {
namespace {

enum class MouseStatus : uint8_t {
    ok = 0,
    bad_function = 1,
    bad_input = 2,
    interface_error = 3,
    no_handler = 5,
};

// Mouse commands.
constexpr uint8_t mouse_reset = 0xFF, mouse_enable = 0xF4, mouse_disable = 0xF5, mouse_set_rate = 0xF3;
constexpr uint8_t mouse_set_resolution = 0xE8, mouse_get_id = 0xF2, mouse_get_status = 0xE9;
constexpr uint8_t mouse_scale_1 = 0xE6, mouse_scale_2 = 0xE7;
constexpr uint8_t acknowledge = 0xFA;

// 8042 commands and command-byte bits.
constexpr uint8_t read_command_byte = 0x20, write_command_byte = 0x60, enable_mouse = 0xA8, disable_mouse = 0xA7,
                  write_mouse = 0xD4;
constexpr uint8_t mouse_interrupt_on = 0x02, mouse_clock_off = 0x20, keyboard_clock_off = 0x10;

constexpr uint8_t handler_installed = 0x80;

// Runs `talk` with both the keyboard's bytes and the mouse interrupt held off, so that answers are the mouse's.
class MouseTalk {
  public:
    MouseTalk() {
        disable_interrupts();
        if (controller_command(read_command_byte)) controller_read(command_byte_);
        set_command_byte(static_cast<uint8_t>((command_byte_ | keyboard_clock_off) & ~(mouse_interrupt_on | 0x01) &
                                              ~mouse_clock_off));
    }

    bool byte(uint8_t value) {
        uint8_t answer = 0;
        return controller_command(write_mouse) && controller_data(value) && controller_read(answer) &&
               answer == acknowledge;
    }

    bool answer(uint8_t& value) { return controller_read(value); }

    // Puts the controller back, with the mouse's interrupt and clock as wanted.
    void finish() { set_command_byte(command_byte_); }

    void listen() { command_byte_ = static_cast<uint8_t>((command_byte_ | mouse_interrupt_on) & ~mouse_clock_off); }
    void hush() { command_byte_ = static_cast<uint8_t>(command_byte_ & ~mouse_interrupt_on); }

  private:
    void set_command_byte(uint8_t value) {
        if (controller_command(write_command_byte)) controller_data(value);
    }

    uint8_t command_byte_ = 0x47;
};

void finish_mouse(Registers& r, MouseStatus status) {
    r.ah() = static_cast<uint8_t>(status);
    if (status == MouseStatus::ok) {
        r.clear_carry();
    } else {
        r.set_carry();
    }
}

void done(Registers& r, bool worked) {
    finish_mouse(r, worked ? MouseStatus::ok : MouseStatus::interface_error);
}

// IRQ 12 and the cascade.
void open_interrupt() {
    out_byte(0xA1, in_byte(0xA1) & 0xEF);
    out_byte(0x21, in_byte(0x21) & 0xFB);
}

void c200_enable(Registers& r) {
    if (r.bh() > 1) return finish_mouse(r, MouseStatus::bad_input);
    const bool on = r.bh() == 1;
    if (on && !(ebda_get(VIV_EBDA_FIELD(mouse_package_size)) & handler_installed)) {
        return finish_mouse(r, MouseStatus::no_handler);
    }
    MouseTalk talk;
    const bool worked = talk.byte(on ? mouse_enable : mouse_disable);
    ebda_put(VIV_EBDA_FIELD(mouse_index), 0);
    if (on) {
        talk.listen();
        open_interrupt();
    } else {
        talk.hush();
    }
    talk.finish();
    done(r, worked);
}

void reset_mouse(Registers& r) {
    controller_command(enable_mouse);
    MouseTalk talk;
    uint8_t self_test = 0, identity = 0;
    const bool worked = talk.byte(mouse_reset) && talk.answer(self_test) && talk.answer(identity);
    talk.hush();
    talk.finish();
    ebda_put(VIV_EBDA_FIELD(mouse_index), 0);
    if (worked) {
        r.bl() = self_test;
        r.bh() = identity;
    }
    done(r, worked);
}

void c202_sample_rate(Registers& r) {
    static constexpr uint8_t rates[] = {10, 20, 40, 60, 80, 100, 200};
    VIV_IN_ROM static constexpr RomTable table{rates};
    if (r.bh() >= table.size()) return finish_mouse(r, MouseStatus::bad_input);
    MouseTalk talk;
    const bool worked = talk.byte(mouse_set_rate) && talk.byte(table[r.bh()]);
    talk.finish();
    done(r, worked);
}

void c203_resolution(Registers& r) {
    if (r.bh() > 3) return finish_mouse(r, MouseStatus::bad_input);
    MouseTalk talk;
    const bool worked = talk.byte(mouse_set_resolution) && talk.byte(r.bh());
    talk.finish();
    done(r, worked);
}

void c204_identity(Registers& r) {
    MouseTalk talk;
    uint8_t identity = 0;
    const bool worked = talk.byte(mouse_get_id) && talk.answer(identity);
    talk.finish();
    if (worked) r.bh() = identity;
    done(r, worked);
}

void c205_initialise(Registers& r) {
    if (r.bh() < 1 || r.bh() > 8) return finish_mouse(r, MouseStatus::bad_input);
    const uint8_t installed = ebda_get(VIV_EBDA_FIELD(mouse_package_size)) & handler_installed;
    ebda_put(VIV_EBDA_FIELD(mouse_package_size), installed | (r.bh() - 1));
    const uint16_t bx = r.bx();
    reset_mouse(r);
    r.bx() = bx;
}

void c206_status_or_scaling(Registers& r) {
    if (r.bh() > 2) return finish_mouse(r, MouseStatus::bad_input);
    MouseTalk talk;
    bool worked;
    if (r.bh() != 0) {
        worked = talk.byte(r.bh() == 1 ? mouse_scale_1 : mouse_scale_2);
    } else {
        uint8_t status = 0, resolution = 0, rate = 0;
        worked = talk.byte(mouse_get_status) && talk.answer(status) && talk.answer(resolution) && talk.answer(rate);
        if (worked) {
            r.bl() = status;
            r.cl() = resolution;
            r.dl() = rate;
        }
    }
    talk.finish();
    done(r, worked);
}

void c207_set_handler(Registers& r) {
    ebda_put(VIV_EBDA_FIELD(mouse_handler_offset), r.bx());
    ebda_put(VIV_EBDA_FIELD(mouse_handler_segment), r.es);
    const uint8_t size = ebda_get(VIV_EBDA_FIELD(mouse_package_size)) & 7;
    const bool installed = r.bx() != 0 || r.es != 0;
    ebda_put(VIV_EBDA_FIELD(mouse_package_size), size | (installed ? handler_installed : 0));
    finish_mouse(r, MouseStatus::ok);
}

}  // namespace

void int15_c2_pointing_device(Registers& r) {
    switch (r.al()) {
        case 0x00: return c200_enable(r);
        case 0x01: return reset_mouse(r);
        case 0x02: return c202_sample_rate(r);
        case 0x03: return c203_resolution(r);
        case 0x04: return c204_identity(r);
        case 0x05: return c205_initialise(r);
        case 0x06: return c206_status_or_scaling(r);
        case 0x07: return c207_set_handler(r);
    }
    finish_mouse(r, MouseStatus::bad_function);
}

// IRQ 12: collects a packet, then calls the driver with status, X, Y and Z as words on the stack.
extern "C" void mouse_interrupt(Registers&) {
    disable_interrupts();
    // Bits 0 and 5: the byte at port 60h is the mouse's.
    if ((in_byte(0x64) & 0x21) == 0x21) {
        const uint8_t value = in_byte(0x60);
        const uint8_t configured = ebda_get(VIV_EBDA_FIELD(mouse_package_size));
        uint8_t index = ebda_get(VIV_EBDA_FIELD(mouse_index)) & 7;
        constexpr uint16_t packet = __builtin_offsetof(Ebda, mouse_packet);
        far_write(get(bda::ebda_segment), static_cast<uint16_t>(packet + index), value);
        ++index;
        if (index > (configured & 7)) {
            index = 0;
            ebda_put(VIV_EBDA_FIELD(mouse_index), index);
            if (configured & handler_installed) {
                const uint16_t ebda = get(bda::ebda_segment);
                const uint16_t words[] = {far_read<uint8_t>(ebda, packet), far_read<uint8_t>(ebda, packet + 1),
                                          far_read<uint8_t>(ebda, packet + 2)};
                const uint32_t handler = uint32_t{ebda_get(VIV_EBDA_FIELD(mouse_handler_segment))} << 16 |
                                         ebda_get(VIV_EBDA_FIELD(mouse_handler_offset));
                call_mouse_handler(handler, words);
                disable_interrupts();
            }
        } else {
            ebda_put(VIV_EBDA_FIELD(mouse_index), index);
        }
    }
    out_byte(0xA0, 0x20);
    out_byte(0x20, 0x20);
}

}  // namespace viv::rom
