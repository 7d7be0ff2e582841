"""Facts about English words: opposites, synonyms, past tenses, plurals, comparatives, men and women."""

from __future__ import annotations

from tui_lab.pocket.builder.relation import Relation, alternatives, lines, pairs

RELATIONS = (
    Relation(
        "opposite",
        "words",
        pairs("""
            hot=cold; big=small; up=down; left=right; day=night; good=bad; happy=sad; fast=slow;
            old=young; open=closed; full=empty; high=low; long=short; heavy=light; early=late; rich=poor;
            strong=weak; wet=dry; hard=soft; clean=dirty; loud=quiet; thick=thin; near=far; deep=shallow;
            wide=narrow; inside=outside; first=last; begin=end; buy=sell; win=lose; push=pull; love=hate;
            black=white; true=false; always=never; before=after; above=below; front=back; east=west;
            north=south; sweet=sour; sharp=blunt; awake=asleep; alive=dead; brave=afraid;
            cheap=expensive; easy=difficult; give=take; laugh=cry; remember=forget; summer=winter;
            friend=enemy; war=peace; yes=no; more=less; many=few; top=bottom; smooth=rough; bright=dark;
            question=answer"""),
        lines("""
            the opposite of {s}
            the opposite of "{s}"
            the word that means the opposite of {s}
            the opposite word of {s}"""),
        lines("""
            Which word is the opposite of {s}?
            What means the opposite of {s}?
            If something is not {s} at all, what is it?
            {s} is the opposite of what?
            Which word says the reverse of {s}?
            What is the other end of {s}?
            Turn {s} around. Which word do you get?
            What do you say when you mean the reverse of {s}?"""),
        lines("""
            Which word has the reverse meaning of {s}?
            {s} has which opposite?
            Give the exact opposite of the word {s}."""),
        lines("""
            The opposite of {s} is {a}.
            {a} is the opposite of {s}.
            If it is not {s}, it may be {a}.
            {s} and {a} are opposites."""),
        alternatives(
            """
            big=few, short, narrow; high=short, bottom, below; hot=winter; good=sour; happy=cry;
            strong=blunt, soft; old=first; inside=far; above=bottom; top=below, low; black=bright;
            more=few; many=small; loud=soft; sharp=soft; begin=last; before=last"""
        ),
    ),
    Relation(
        "synonym",
        "words",
        pairs("""
            big=large; small=little; quick=fast; begin=start; end=finish; happy=glad; sad=unhappy;
            smart=clever; angry=mad; shut=close; speak=talk; rich=wealthy; ill=sick; silent=quiet;
            scared=afraid; tired=sleepy; present=gift; stone=rock; road=street; boat=ship; cap=hat;
            jump=leap; weep=cry; choose=pick; reply=answer; odd=strange; simple=easy; correct=right;
            enjoy=like; mend=repair; pretty=beautiful; wonderful=great"""),
        lines("""
            another word for {s}
            a word that means the same as {s}
            a synonym of {s}"""),
        lines("""
            Which word means the same as {s}?
            What else can I say for {s}?
            What is a different word with the meaning of {s}?
            Instead of {s}, what can I say?
            {s} means the same as what?
            Which word can replace {s}?
            How else do you say {s}?"""),
        lines("""
            Which word is close in meaning to {s}?
            What other word has the same meaning as {s}?
            If I do not want to say {s}, which word could I use?"""),
        lines("""
            {s} means the same as {a}.
            Another word for {s} is {a}.
            {a} is a synonym of {s}.
            You can say {a} for {s}."""),
        alternatives(
            """
            pretty=great; wonderful=beautiful; odd=beautiful; sad=sick; ill=unhappy; end=close;
            shut=finish; angry=unhappy; happy=great; correct=great; choose=like; big=great; tired=sick"""
        ),
    ),
    Relation(
        "past",
        "words",
        pairs("""
            go=went; eat=ate; see=saw; run=ran; come=came; take=took; give=gave; make=made; write=wrote;
            speak=spoke; drink=drank; swim=swam; sing=sang; fly=flew; buy=bought; bring=brought;
            think=thought; catch=caught; teach=taught; find=found; know=knew; grow=grew; throw=threw;
            draw=drew; break=broke; drive=drove; ride=rode; fall=fell; feel=felt; keep=kept; sleep=slept;
            leave=left; lose=lost; sell=sold; tell=told; stand=stood; win=won; sit=sat; begin=began;
            hear=heard; build=built; send=sent; meet=met; wear=wore; hide=hid; dig=dug; bite=bit;
            choose=chose; steal=stole; wake=woke"""),
        lines("""
            the past tense of {s}
            the past tense of "{s}"
            the past form of {s}
            the simple past of the verb {s}"""),
        lines("""
            What is {s} in the past tense?
            Today I {s}. Yesterday I did it too. Which word do I use?
            How do you say {s} for yesterday?
            Which word is the past of {s}?
            What does {s} become in the past?
            {s} in the past tense is what?
            If it happened yesterday, what does {s} become?
            Put {s} into the past."""),
        lines("""
            How does {s} change when we talk about yesterday?
            Which past tense does the verb {s} have?
            Say {s} as if it happened last week."""),
        lines("""
            The past tense of {s} is {a}.
            Today I {s}, yesterday I {a}.
            {a} is the past of {s}.
            In the past, {s} becomes {a}."""),
    ),
    Relation(
        "plural",
        "words",
        pairs("""
            mouse=mice; child=children; foot=feet; tooth=teeth; man=men; woman=women; goose=geese;
            ox=oxen; person=people; leaf=leaves; knife=knives; wolf=wolves; wife=wives; half=halves;
            shelf=shelves; loaf=loaves; life=lives; city=cities; baby=babies; lady=ladies; story=stories;
            party=parties; box=boxes; bus=buses; dish=dishes; potato=potatoes; tomato=tomatoes;
            hero=heroes; sheep=sheep; cat=cats; dog=dogs; house=houses; calf=calves; thief=thieves;
            penny=pennies; berry=berries; fox=foxes; glass=glasses; watch=watches; cherry=cherries"""),
        lines("""
            the plural of {s}
            the plural form of {s}
            the plural of "{s}"
            the word for more than one {s}"""),
        lines("""
            What do you call more than one {s}?
            One {s}, two what?
            How do you say {s} in the plural?
            Which word is the plural of {s}?
            I see one {s}. Now I see three of them. Three what?
            What does {s} become when there are many?
            {s} in the plural is what?
            If there are five of them, what does {s} become?"""),
        lines("""
            How do we write {s} when there are several?
            Which plural does the word {s} have?
            There is one {s}. How do I name two of them?"""),
        lines("""
            The plural of {s} is {a}.
            One {s}, two {a}.
            More than one {s} are {a}.
            {a} is the plural of {s}."""),
    ),
    Relation(
        "comparative",
        "words",
        pairs("""
            big=bigger; small=smaller; good=better; bad=worse; far=farther; happy=happier; hot=hotter;
            cold=colder; fast=faster; slow=slower; tall=taller; short=shorter; old=older; young=younger;
            easy=easier; heavy=heavier; dry=drier; thin=thinner; funny=funnier; wet=wetter; late=later;
            strong=stronger; cheap=cheaper; busy=busier"""),
        lines("""
            the comparative of {s}
            the comparative form of {s}
            the comparative of the word {s}"""),
        lines("""
            What is the comparative of {s}?
            One is {s}, the other is even more so. It is what?
            This one is {s}, but that one is what?
            Which word means more {s}?
            How do you say more {s} in one word?
            {s} becomes what when you compare?
            How do you compare two things with {s}?"""),
        lines("""
            Which comparative does the word {s} have?
            What does {s} turn into when two things are compared?
            Tom is {s}. Anna is even more so: how is she, in one word?"""),
        lines("""
            The comparative of {s} is {a}.
            This is {s}, but that is {a}.
            {a} means more {s}.
            When you compare, {s} becomes {a}."""),
    ),
    Relation(
        "female",
        "words",
        pairs("""
            king=queen; man=woman; boy=girl; father=mother; brother=sister; son=daughter; uncle=aunt;
            husband=wife; grandfather=grandmother; prince=princess; actor=actress; waiter=waitress;
            nephew=niece; bull=cow; rooster=hen; ram=ewe; stallion=mare; wizard=witch; gentleman=lady;
            grandson=granddaughter"""),
        lines("""
            the female form of {s}
            the female word for {s}
            the feminine of {s}"""),
        lines("""
            What do you call a female {s}?
            Which word is the female of {s}?
            He is a {s}. If it were a she, what would she be?
            The female of {s} is what?
            What is a {s} called when it is female?
            Which female word goes with {s}?"""),
        lines("""
            How do you name the female of a {s}?
            Which word stands for a {s} that is female?
            If not a {s} but a female, which word do we use?"""),
        lines("""
            The female form of {s} is {a}.
            A female {s} is called a {a}.
            {a} is the female word for {s}.
            A {s} is male and a {a} is female."""),
    ),
)
