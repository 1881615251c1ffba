"""农产品电商入门: an article in Markdown with three pictures of its own."""

from __future__ import annotations

import math
from pathlib import Path

from tools.samples.canvas import Canvas, blend, rgb

TEXT = """# 农产品电商入门：把家乡好货卖出去

过去卖粮卖菜要等客商上门，价格由人定。开一间网店，村里的红薯、大蒜、木耳就能直接卖到城里人的厨房。
本课用三步讲清楚：**选品、打包、发货**。

## 一、选什么来卖

1. 耐放：红薯、花生、干木耳、小米，路上三五天不坏。
2. 有故事：原阳大米、中牟大蒜、灵宝苹果，先把产地说清楚。
3. 供得上：先算清一天能采多少、能包多少，再上架。

![从田头到餐桌的四个环节](流程.png)

## 二、怎样打包

| 货品 | 内包装 | 外箱 | 每箱净重 |
|---|---|---|---|
| 红薯 | 网套 | 五层瓦楞箱 | 5 kg |
| 鸡蛋 | 珍珠棉格 | 双层箱 | 30 枚 |
| 干木耳 | 铝箔袋 | 小纸盒 | 250 g |

> 称重要足，宁多一两，不少一钱。一个差评要用五十个好评来还。

![五种货品的月销量](销量.png)

图中依次是：1 红薯、2 鸡蛋、3 干木耳、4 小米、5 大蒜，单位为箱。

## 三、什么时候发货

上午接单，下午四点前交给镇上的快递点，当晚就能上干线车。下图从县城往外，一圈是一天。

![发货时效示意](时效.png)

## 课后动手

- 用手机给自家货品拍三张照片：全景、近景、称重。
- 写一段五十字以内的介绍，念给邻居听，听得懂才算好。
- 算一笔账：成本、包装、运费各多少，卖多少钱才不亏。
"""

_PAPER, _INK = rgb(250, 248, 240), rgb(58, 62, 70)


def write_article(directory: Path) -> tuple[Path, ...]:
    """Write the article and its pictures; the article comes first."""
    article = directory / "农产品电商入门.md"
    article.write_text(TEXT, encoding="utf-8")
    files = [article]
    for name, draw in (("流程.png", _steps), ("销量.png", _sales), ("时效.png", _distances)):
        path = directory / name
        path.write_bytes(draw().png())
        files.append(path)
    return tuple(files)


def _steps() -> Canvas:
    """Field, scales, box, house, and arrows between them."""
    canvas = Canvas.blank(960, 300, _PAPER)
    canvas.rect(0, 0, 960, 8, rgb(226, 120, 60))
    for n in range(4):
        x = 130 + n * 234
        canvas.oval(x, 146, 92, 92, rgb(232, 238, 224))
        canvas.digits(str(n + 1), x - 12, 252, 4, rgb(226, 120, 60))
        if n < 3:
            canvas.rect(x + 100, 142, 22, 8, rgb(180, 176, 164))
            canvas.shape([(x + 120, 132), (x + 138, 146), (x + 120, 160)], rgb(180, 176, 164))
    for n in range(5):
        canvas.stroke((80 + n * 25, 190), (80 + n * 25 + 6, 120), 5, rgb(76, 150, 66))
        canvas.oval(88 + n * 25, 112, 9, 16, rgb(236, 184, 70))
    canvas.shape([(310, 190), (418, 190), (398, 160), (330, 160)], rgb(86, 134, 196))
    canvas.oval(364, 132, 34, 28, rgb(190, 84, 60))
    canvas.rect(540, 110, 116, 80, rgb(204, 154, 98))
    canvas.rect(590, 110, 16, 80, rgb(238, 214, 170))
    canvas.rect(540, 110, 116, 6, rgb(170, 120, 70))
    canvas.rect(784, 136, 96, 60, rgb(238, 228, 210))
    canvas.shape([(772, 138), (832, 90), (892, 138)], rgb(190, 62, 50))
    canvas.rect(820, 156, 24, 40, rgb(120, 80, 56))
    return canvas


def _sales() -> Canvas:
    """Columns of five goods."""
    canvas = Canvas.blank(960, 420, _PAPER)
    for line in range(6):
        canvas.rect(80, 60 + line * 60, 840, 2, rgb(224, 218, 204))
        canvas.digits(str(500 - line * 100).rjust(3), 20, 52 + line * 60, 3, _INK)
    for n, value in enumerate((420, 310, 265, 180, 360)):
        high = value * 0.6
        colour = blend(rgb(64, 142, 108), rgb(232, 152, 62), n / 4)
        canvas.rect(130 + n * 160, 360 - high, 90, high, colour)
        canvas.rect(130 + n * 160, 360 - high, 90, 8, blend(colour, rgb(255, 255, 255), 0.4))
        canvas.digits(str(value), 140 + n * 160, 326 - high, 4, _INK)
        canvas.digits(str(n + 1), 162 + n * 160, 372, 4, _INK)
    canvas.rect(80, 360, 840, 4, _INK)
    return canvas


def _distances() -> Canvas:
    """Rings of days around the county, with a parcel on its way."""
    canvas = Canvas.blank(960, 480, rgb(232, 240, 244))
    for days, size in ((4, 230), (3, 180), (2, 124), (1, 66)):
        canvas.oval(480, 240, size * 1.9, size, blend(rgb(244, 168, 92), rgb(250, 246, 232), days / 4))
        canvas.digits(str(days), 480 + round(size * 1.9) - 34, 228, 4, _INK)
    for n in range(14):
        turn, reach = n * 2.4, 0.35 + (n * 37 % 60) / 100
        x, y = 480 + 400 * reach * math.cos(turn), 240 + 210 * reach * math.sin(turn)
        canvas.stroke((480, 240), (x, y), 2, rgb(150, 160, 170))
        canvas.oval(x, y, 8, 8, rgb(52, 108, 170))
    canvas.oval(480, 240, 16, 16, rgb(200, 50, 60))
    return canvas
